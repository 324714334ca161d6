"""`ledger verify --archive`, what the files show by themselves: the manifest is right, and the chain is whole."""

import asyncio
import gzip
import hashlib
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from service.archiving.description import Description
from service.archiving.layout import what_is_wrong_with
from service.archiving.lines import UnreadableLineError, decode_line, what_is_wrong
from service.archiving.manifest import (
    MANIFEST,
    ArchivedFile,
    ArchiveRefusedError,
    Manifest,
    event_files,
    on_disk,
    read_manifest,
)

LISTING_WAIT_S: Final = 0.5
"""Within this time a file that has its name is in the manifest."""

EVENTS_PER_STEP: Final = 2_000
"""After so many events progress is told, and Ctrl-C is seen."""

Progress = Callable[[int, int], None]
"""Takes how many events were checked, and of how many."""


class ArchiveViolation(Exception):  # noqa: N818 - it is a finding, not a failure
    """The first thing that is wrong with an archive."""

    def __init__(self, where: str, what: str) -> None:
        """
        Args:
            where: the file, or the position of the event.
            what: what is there and what should be.
        """
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


async def check_archive(folder: Path, progress: Progress) -> Manifest:
    """Read everything; every hash is computed again. Needs nothing but the files.

    Raises:
        ArchiveViolation: the first thing that is wrong.
        FolderError: a file cannot be read.
    """
    try:
        manifest = read_manifest(folder)
    except ArchiveRefusedError as error:
        raise ArchiveViolation(MANIFEST, str(error)) from error
    if manifest is None:
        raise ArchiveViolation(MANIFEST, f"{folder} has none")
    wrong = what_is_wrong_with(manifest)
    if wrong is not None:
        raise ArchiveViolation(MANIFEST, wrong)
    lying = event_files(folder)
    for file in manifest.files:
        if file.path not in lying:
            raise ArchiveViolation(file.path, f"it is missing, with {file.events} events")
    for path in await _unlisted(folder, set(lying), manifest):
        raise ArchiveViolation(
            path, "it is not in the manifest; `ledger archive` removes it, if it is what an interrupted run left"
        )
    done = 0
    progress(done, manifest.events)
    for file in manifest.files:
        async for events in _checked(folder, file):
            progress(done + events, manifest.events)
        done += file.events
    return manifest


async def _unlisted(folder: Path, lying: set[str], manifest: Manifest) -> list[str]:
    """The files that no manifest lists, in their order."""
    unlisted = lying - {file.path for file in manifest.files}
    if unlisted:
        # A run beside us has given a file its name, and lists it in the next moment.
        await asyncio.sleep(LISTING_WAIT_S)
        later = read_manifest(folder)
        unlisted -= set() if later is None else {file.path for file in later.files}
    return sorted(unlisted)


async def _checked(folder: Path, listed: ArchivedFile) -> AsyncIterator[int]:
    """Check a file; tells now and then how many of its events were."""
    path = folder / listed.path
    with on_disk(path):
        length = path.stat().st_size
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if length != listed.bytes:
        raise ArchiveViolation(
            listed.path, f"it is {length} bytes long instead of {listed.bytes}: it was cut or added to"
        )
    if sha256 != listed.sha256:
        raise ArchiveViolation(listed.path, f"its SHA-256 is {sha256} instead of {listed.sha256}: it was changed")
    description = Description(listed.partition, listed.first_prev_hash)
    for sequence, line in enumerate(_lines(path, listed.path), listed.first_sequence):
        _check_line(line, listed.partition, sequence, description)
        if description.events % EVENTS_PER_STEP == 0:
            yield description.events
            await asyncio.sleep(0)
    if not description.events:
        raise ArchiveViolation(listed.path, "it holds no event")
    found = description.of_file(length, sha256)
    for name, value in msgspec.structs.asdict(found).items():
        said = getattr(listed, name)
        if said != value:
            raise ArchiveViolation(listed.path, f"its {name} is {value}, the manifest says {said}")
    yield description.events


def _lines(path: Path, name: str) -> Iterator[bytes]:
    with on_disk(path):
        try:
            with gzip.open(path) as file:
                yield from file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ArchiveViolation(name, f"it cannot be unpacked: {error}") from error


def _check_line(line: bytes, partition: int, sequence: int, description: Description) -> None:
    try:
        event = decode_line(line)
    except UnreadableLineError as error:
        raise ArchiveViolation(f"{partition}:{sequence}", f"its line is no archived event: {error}") from error
    wrong = what_is_wrong(event, partition, sequence, description.last_hash)
    if wrong is not None:
        raise ArchiveViolation(f"{partition}:{sequence}", wrong)
    description.add(event)
