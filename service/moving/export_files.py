"""The files of an export: what lies in them, and how they are written and read.

A folder with `manifest.json`, the events in files of gzipped JSON lines in the order in which they happened (a line is
that of an archive, `service.archiving.lines`), and what lies beside the events. The manifest is written last: a folder
without one is no export. It names every file with its number of lines and the SHA-256 of its bytes, as `sha256sum`
tells it.
"""

import contextlib
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from uuid import UUID

import msgspec

from service.archiving.manifest import sync_folder

FORMAT: Final = "ledger-export"
FORMAT_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
QUARANTINE: Final = "quarantine.jsonl.gz"
INTERVENTIONS: Final = "interventions.jsonl.gz"

FILE_EVENTS_MAX: Final = 1_000_000
"""Events in one file; the next ones begin another."""

LINE_BYTES_MAX: Final = 16 * 2**20
"""Of one line: a quarantined message may be as large as a broker takes."""

MANIFEST_BYTES_MAX: Final = 64 * 2**20
COMPRESSION_LEVEL: Final = 4
"""Of gzip: twice as fast as the usual one, for a tenth more bytes."""


class ExportError(Exception):
    """The folder is no whole export, or cannot be read or written; the text says what is wrong, and where."""


class QuarantinedLine(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, forbid_unknown_fields=True):
    """A message that could not be read, byte for byte (`key` and `value` in base64), and what became of it."""

    app: str
    partition: int
    generation: int
    command_offset: int
    timestamp_ms: int
    quarantined_at: datetime
    reason: str
    detail: str
    status: str
    key: bytes | None = None
    value: bytes | None = None
    resolved_at: datetime | None = None
    resolution: str | None = None
    retried_as: UUID | None = None


class ExportedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a partition of the exported record ends; `hash` is of its last event, in hexadecimal digits."""

    partition: int
    sequence: int
    hash: str


class ExportedFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the export: its lines, and the SHA-256 of its bytes."""

    name: str
    lines: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the export is of, and what must be found in it."""

    format: str
    version: int
    ledger_id: UUID
    partitions: int
    exported_at: datetime
    """The database's time of the snapshot."""
    events: int
    apps: list[str]
    """All apps whose commands the record has consumed."""
    heads: list[ExportedHead]
    event_files: list[ExportedFile]
    quarantine: ExportedFile
    interventions: ExportedFile


class LinesWriter:
    """Writes one gzipped file of JSON lines."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / name
        with _written(self._path):
            self._file = self._path.open("xb")
        self._raw = _DigestingFile(self._file)
        # Without a name and a time in it the same lines always make the same file.
        self._zipped = gzip.GzipFile("", "wb", COMPRESSION_LEVEL, cast(BinaryIO, self._raw), mtime=0)
        self._encoder = msgspec.json.Encoder()
        self.lines = 0

    def write(self, values: list[Any]) -> None:
        """One line for each value. Raises ExportError."""
        with _written(self._path):
            self._zipped.write(self._encoder.encode_lines(values))
        self.lines += len(values)

    def close(self) -> ExportedFile:
        """End the file, and wait until it is on the disk. Raises ExportError."""
        with _written(self._path):
            self._zipped.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        return ExportedFile(self._path.name, self.lines, self._raw.sha256)

    def abandon(self) -> None:
        """Let go of the file, as it is."""
        # The disk may be what it failed at.
        with contextlib.suppress(OSError):
            self._file.close()


@contextmanager
def _written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror or error}") from error


def create_folder(folder: Path) -> None:
    """Make the folder of a new export, or take an empty one. Raises ExportError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = next(folder.iterdir(), None)
    except OSError as error:
        raise ExportError(f"{folder} cannot be made: {error.strerror}") from error
    if found is not None:
        raise ExportError(f"{folder} is not empty: it holds {found.name}")


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """End an export: only now the folder is one. Raises ExportError."""
    path = folder / MANIFEST
    unfinished = path.with_suffix(".unfinished")
    with _written(path), unfinished.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())
        unfinished.replace(path)
        sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of an export.

    Raises:
        ExportError: the folder is no export, or one of another version.
    """
    path = folder / MANIFEST
    try:
        if path.stat().st_size > MANIFEST_BYTES_MAX:
            raise ExportError(f"{path} is larger than {MANIFEST_BYTES_MAX:,} bytes: it is no manifest")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise ExportError(f"{folder} is no whole export: it has no {MANIFEST}, which is written last") from error
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from error
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path} is not the manifest of an export: {error}") from error
    if manifest.format != FORMAT or manifest.version != FORMAT_VERSION:
        raise ExportError(
            f"{path} is of format {manifest.format!r} {manifest.version}; this version reads {FORMAT!r} "
            f"{FORMAT_VERSION}"
        )
    _require_consistent(path, manifest)
    return manifest


def _require_consistent(path: Path, manifest: Manifest) -> None:
    if [head.partition for head in manifest.heads] != list(range(manifest.partitions)):
        raise ExportError(f"{path} does not name the heads of its {manifest.partitions} partitions, each once in order")
    ends = sum(head.sequence for head in manifest.heads)
    lines = sum(file.lines for file in manifest.event_files)
    if not manifest.events == ends == lines:
        raise ExportError(f"{path} tells of {manifest.events} events, heads at {ends} and {lines} lines")
    for file in (*manifest.event_files, manifest.quarantine, manifest.interventions):
        if Path(file.name).name != file.name:
            raise ExportError(f"{path} names a file outside of the export: {file.name!r}")


def read_lines(folder: Path, file: ExportedFile, kind: type[Any]) -> Iterator[Any]:
    """The values of a file, in order, decoded as `kind`; its end only where its lines and bytes are the manifest's.

    Raises:
        ExportError: the file is damaged, cut short, or not the one that was written.
    """
    path = folder / file.name
    decoder = msgspec.json.Decoder(kind)
    number = 0
    try:
        with path.open("rb") as opened:
            raw = _DigestingFile(opened)
            with gzip.GzipFile(mode="rb", fileobj=cast(BinaryIO, raw)) as zipped:
                while line := zipped.readline(LINE_BYTES_MAX + 1):
                    number += 1
                    if len(line) > LINE_BYTES_MAX:
                        raise ExportError(f"{path}, line {number}: longer than {LINE_BYTES_MAX:,} bytes")
                    yield decoder.decode(line)
    except FileNotFoundError as error:
        raise ExportError(f"{path} is missing") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ExportError(f"{path} is damaged behind line {number}: {error}") from error
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}, line {number}: {error}") from error
    if number != file.lines:
        raise ExportError(f"{path} has {number} lines, the manifest tells of {file.lines}")
    if raw.sha256 != file.sha256:
        raise ExportError(f"{path} is not the file that was written: its SHA-256 is {raw.sha256}, not {file.sha256}")


class _DigestingFile:
    """A file beneath gzip that knows the SHA-256 of what has passed through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        return data
