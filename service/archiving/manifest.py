"""What an archive holds: `manifest.json`, always whole on the disk, whatever stops whoever writes it."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec

from ledger.domain.chain import GENESIS

FORMAT: Final = "ledger-archive"
VERSION: Final = 1
MANIFEST: Final = "manifest.json"
UNFINISHED: Final = ".unfinished"
"""What is not yet under its own name ends so. Nobody reads it, and the next run removes it."""

_LOCK: Final = ".lock"
_PLACE: Final = re.compile(r"partition-(\d{4,})/events-(\d{12,})-(\d{12,})\.jsonl\.gz")

Count = Annotated[int, msgspec.Meta(ge=0)]
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class ArchiveRefusedError(Exception):
    """The folder is no archive that can be gone on with; nothing was changed."""

    def __init__(self, what: str, to_do: str | None = None) -> None:
        """
        Args:
            what: what is there.
            to_do: what to do about it.
        """
        super().__init__(what)
        self.to_do = to_do


class FolderError(Exception):
    """A file of the archive cannot be read or written."""


class ArchivedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of an archive: the events `first_sequence` to `last_sequence` of a partition."""

    path: str
    """Within the archive."""
    partition: Count
    first_sequence: Annotated[int, msgspec.Meta(ge=1)]
    last_sequence: Annotated[int, msgspec.Meta(ge=1)]
    first_prev_hash: Digest
    """The hash of the event before the first one; zeros where that is the first of its partition."""
    last_hash: Digest
    events: Annotated[int, msgspec.Meta(ge=1)]
    accepted: Count
    """How many of them are accepted entries."""
    amounts: dict[str, int]
    """By credit type, the sum of the amounts."""
    first_occurred_at: datetime
    last_occurred_at: datetime
    bytes: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Digest
    """Of the file as it lies there, compressed."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An archive. `files` are in the order of partitions and sequences, without a gap from sequence 1 on."""

    format: str = FORMAT
    version: int = VERSION
    ledger_id: UUID
    partitions: Annotated[int, msgspec.Meta(ge=1)]
    files: tuple[ArchivedFile, ...] = ()

    def last_of(self, partition: int) -> tuple[int, str]:
        """The last archived sequence of a partition and its hash; 0 and zeros when there is none."""
        files = [file for file in self.files if file.partition == partition]
        return (files[-1].last_sequence, files[-1].last_hash) if files else (0, GENESIS.hex())

    def with_file(self, file: ArchivedFile) -> "Manifest":
        """The same archive with one more file."""
        files = sorted((*self.files, file), key=lambda one: (one.partition, one.first_sequence))
        return msgspec.structs.replace(self, files=tuple(files))

    @property
    def events(self) -> int:
        """All events of the archive."""
        return sum(file.events for file in self.files)

    @property
    def bytes(self) -> int:
        """All files of events together."""
        return sum(file.bytes for file in self.files)


def place_of(partition: int, first_sequence: int, last_sequence: int) -> str:
    """The path of a file within its archive. Twelve digits: in a listing the files stand in their order."""
    return f"{folder_of(partition)}/events-{first_sequence:012}-{last_sequence:012}.jsonl.gz"


def folder_of(partition: int) -> str:
    """The folder of a partition within its archive."""
    return f"partition-{partition:04}"


def read_manifest(folder: Path) -> Manifest | None:
    """The manifest of an archive; None where the folder has none.

    Raises:
        ArchiveRefusedError: it is damaged, or of another format.
        FolderError: it cannot be read.
    """
    path = folder / MANIFEST
    with on_disk(path):
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        told = msgspec.json.decode(text)
        if not isinstance(told, dict) or (told.get("format"), told.get("version")) != (FORMAT, VERSION):
            raise ArchiveRefusedError(f"{path} is not the manifest of a {FORMAT} of version {VERSION}")
        return msgspec.convert(told, Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArchiveRefusedError(
            f"{path} is damaged: {error}", "put an undamaged copy of it back; the files of events need not change"
        ) from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Put the manifest in the place of the one before: whoever reads it finds the one or the other, whole.

    Raises:
        FolderError: it cannot be written.
    """
    path = folder / MANIFEST
    unfinished = path.with_name(MANIFEST + UNFINISHED)
    with on_disk(path):
        with unfinished.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(folder)


def event_files(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every file of events that lies in the folder, listed or not: partition, first and last sequence by path."""
    with on_disk(folder):
        names = [path.relative_to(folder).as_posix() for path in folder.glob("*/*.jsonl.gz")]
    found = {name: _PLACE.fullmatch(name) for name in names}
    return {name: (int(m[1]), int(m[2]), int(m[3])) if m else (-1, 0, 0) for name, m in found.items()}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else writes the archive during the block. The lock ends with the process, however that ends.

    Raises:
        ArchiveRefusedError: somebody else writes it now.
        FolderError: the folder cannot be written.
    """
    with on_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveRefusedError(f"another `ledger archive` writes {folder}", "wait for it") from None
        yield


@contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Says of what the disk refuses that it was the disk: elsewhere the same errors mean that Postgres is away."""
    try:
        yield
    except OSError as error:
        raise FolderError(f"{error.filename or path}: {error.strerror or error}") from error


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
