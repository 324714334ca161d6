"""`ledger archive`: writes what is old and settled of the record to files, each once, and goes on where it stopped.

The record is only read: what is archived stays in it. An archive holds, of each partition, the events from the first
one on without a gap. A file is listed in the manifest when it is whole and on the disk; what a run that was cut short
left beside it is removed by the next one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import asyncpg

from ledger.event_store.identity import read_identity
from ledger.event_store.protocol import Identity
from ledger.sql_files import sql
from service.archiving.layout import what_is_wrong_with
from service.archiving.lines import archived_event, what_is_wrong
from service.archiving.manifest import (
    UNFINISHED,
    ArchivedFile,
    ArchiveRefusedError,
    Manifest,
    event_files,
    locked,
    on_disk,
    read_manifest,
    write_manifest,
)
from service.archiving.writing import FileOfEvents, file_of_events

EVENTS_PER_FILE: Final = 1_000_000
"""About 110 MB. What was written of a file is written again after an interruption."""

EVENTS_PER_FETCH: Final = 5_000
_PACKAGE: Final = "service.archiving"
_RECORD: Final = "ledger.event_store"

Progress = Callable[[int, int], None]
"""Takes how many events were archived, and of how many."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is to be archived: of what is published and projected, all, unless it is bounded."""

    before: datetime | None = None
    """Only what occurred before."""
    up_to: Mapping[int, int] = field(default_factory=dict)
    """The last sequence, by partition; other partitions are then left alone."""


@dataclass(frozen=True, slots=True)
class Archived:
    """What a run did: the archive as it is now, and the files that are new in it."""

    manifest: Manifest
    files: tuple[ArchivedFile, ...]


async def archive_events(
    connection: asyncpg.Connection,
    folder: Path,
    extent: Extent,
    progress: Progress,
    events_per_file: int = EVENTS_PER_FILE,
) -> Archived:
    """Write what is missing in the archive. `connection` is of ledger_reader, outside of a transaction.

    Raises:
        ArchiveRefusedError: the folder is not this ledger's archive, or the record is not sound; nothing was added.
        FolderError: the disk refuses. Files that were finished before are in the archive.
        RecordMismatchError: there is no ledger in this database.
    """
    identity = await read_identity(connection)
    with locked(folder):
        manifest = _opened(folder, identity)
        ends = await _ends(connection, manifest, extent)
        total = sum(ends.values()) - sum(manifest.last_of(partition)[0] for partition in ends)
        done = 0
        progress(done, total)
        new: list[ArchivedFile] = []
        for partition, end in ends.items():
            while (begun := manifest.last_of(partition))[0] < end:
                last = min(end, begun[0] + events_per_file)
                with file_of_events(folder, partition, begun[1]) as file:
                    sequence = begun[0]
                    while sequence < last:
                        await _copy(connection, file, partition, sequence + 1, min(last, sequence + EVENTS_PER_FETCH))
                        done += file.description.last_sequence - sequence
                        sequence = file.description.last_sequence
                        progress(done, total)
                    new.append(file.finish())
                manifest = manifest.with_file(new[-1])
                write_manifest(folder, manifest)
    return Archived(manifest, tuple(new))


def _opened(folder: Path, identity: Identity) -> Manifest:
    """The archive in this folder, made if there is none, without what an interrupted run left."""
    manifest = read_manifest(folder)
    lying = event_files(folder)
    if manifest is None:
        if lying:
            raise ArchiveRefusedError(
                f"{folder} holds files of events, but no manifest", "put the manifest back, or name an empty folder"
            )
        manifest = Manifest(ledger_id=identity.ledger_id, partitions=identity.partitions)
        write_manifest(folder, manifest)
    if (manifest.ledger_id, manifest.partitions) != (identity.ledger_id, identity.partitions):
        raise ArchiveRefusedError(
            f"{folder} is the archive of ledger {manifest.ledger_id} with {manifest.partitions} partitions; this is "
            f"ledger {identity.ledger_id} with {identity.partitions}",
            "name another folder, or correct LEDGER_DATABASE_URL",
        )
    wrong = what_is_wrong_with(manifest)
    if wrong is not None:
        raise ArchiveRefusedError(f"{folder}: {wrong}", "put the archive back as it was, from a copy")
    listed = {file.path: file for file in manifest.files}
    for file in manifest.files:
        with on_disk(folder / file.path):
            length = (folder / file.path).stat().st_size if file.path in lying else None
        if length != file.bytes:
            found = "missing" if length is None else f"{length} bytes long instead of {file.bytes}"
            raise ArchiveRefusedError(f"{folder / file.path} is {found}", "put it back from a copy")
    for path in lying.keys() - listed.keys():
        partition, first, _ = lying[path]
        # A run that ended between giving a file its name and listing it leaves just this one.
        if first != manifest.last_of(partition)[0] + 1:
            raise ArchiveRefusedError(
                f"{folder / path} is not in the manifest", "if the manifest is the right one, remove that file"
            )
        with on_disk(folder / path):
            (folder / path).unlink()
    with on_disk(folder):
        for unfinished in folder.glob(f"*/*{UNFINISHED}"):
            unfinished.unlink()
    return manifest


async def _ends(connection: asyncpg.Connection, manifest: Manifest, extent: Extent) -> dict[int, int]:
    """Up to where each partition is to be archived, never less than it is. The archive joins the record there."""
    ends: dict[int, int] = {}
    rows = await connection.fetch(sql(_PACKAGE, "archivable"))
    unknown = sorted(extent.up_to.keys() - {row["partition"] for row in rows})
    if unknown:
        raise ArchiveRefusedError(f"the ledger has no partition {unknown[0]}", "see `ledger partitions`")
    for row in rows:
        partition, head, end = row["partition"], row["sequence"], row["settled"]
        archived, archived_hash = manifest.last_of(partition)
        if archived:
            recorded = await connection.fetchval(sql(_PACKAGE, "event_hash"), partition, archived)
            if recorded is None or recorded.hex() != archived_hash:
                found = f"ends at {partition}:{head}" if archived > head else "holds another event there"
                raise ArchiveRefusedError(
                    f"the archive goes up to {partition}:{archived} with hash {archived_hash}, but the record {found}",
                    "was the ledger restored from an older copy? `ledger verify --archive` tells more; begin a new "
                    "archive when the record is right",
                )
        if extent.up_to:
            end = min(end, extent.up_to.get(partition, archived))
        if extent.before is not None and end > archived:
            end = await _last_before(connection, partition, archived, end, extent.before)
        ends[partition] = max(end, archived)
    return ends


async def _last_before(connection: asyncpg.Connection, partition: int, low: int, high: int, before: datetime) -> int:
    """The last sequence behind `low`, up to `high`, that occurred before; `low` where none did.

    `occurred_at` never goes back within a partition, so halving finds it without an index on times.
    """
    while low < high:
        middle = (low + high + 1) // 2
        occurred_at = await connection.fetchval(sql(_PACKAGE, "event_time"), partition, middle)
        if occurred_at is None:
            raise _unsound(partition, middle, "it is missing")
        if occurred_at < before:
            low = middle
        else:
            high = middle - 1
    return low


async def _copy(connection: asyncpg.Connection, file: FileOfEvents, partition: int, first: int, last: int) -> None:
    """These events, each proved to follow the one before."""
    rows = await connection.fetch(sql(_RECORD, "read_events"), partition, first, last - first + 1)
    events = []
    prev_hash = file.description.last_hash
    for sequence, row in enumerate(rows, first):
        event = archived_event(row, bytes.fromhex(prev_hash))
        wrong = what_is_wrong(event, partition, sequence, prev_hash)
        if wrong is not None:
            raise _unsound(partition, sequence, wrong)
        prev_hash = event.hash
        events.append(event)
    if len(events) < last - first + 1:
        raise _unsound(partition, first + len(events), "it is missing")
    file.add(events)


def _unsound(partition: int, sequence: int, wrong: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(f"the record is not sound at {partition}:{sequence}: {wrong}", "run `ledger verify`")
