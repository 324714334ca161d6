"""`ledger export`: the whole record, in the order in which it happened, out of one snapshot.

The events of all partitions are merged by the time at which they were recorded (within a partition this never goes
back), so that another number of partitions is filled by reading them once, and each of its partitions is in order too.
"""

import heapq
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import asyncpg

from ledger.domain.chain import GENESIS
from ledger.event_store.identity import read_identity
from ledger.event_store.verification import read_heads
from ledger.event_store.verification_streams import ROWS_PER_FETCH, RowStream
from ledger.sql_files import sql
from service.archiving.lines import ArchivedEvent, archived_event
from service.moving.export_files import (
    FILE_EVENTS_MAX,
    FORMAT,
    FORMAT_VERSION,
    INTERVENTIONS,
    QUARANTINE,
    ExportedFile,
    ExportedHead,
    LinesWriter,
    Manifest,
    QuarantinedLine,
    create_folder,
    write_manifest,
)
from service.moving.exported_chain import ExportedChain

ROWS_AHEAD_MAX: Final = 100_000
"""Rows that are kept of all partitions together while they are merged."""

ROWS_PER_FETCH_MIN: Final = 20
WRITE_EVENTS: Final = 500
"""Events that are encoded and compressed at a time, and between two reports of progress."""

_PACKAGE: Final = "service.moving"

Progress = Callable[[int, int], None]
"""Takes how many events are done, and of how many."""


async def export_record(connection: asyncpg.Connection, folder: Path, progress: Progress) -> Manifest:
    """Write the record, as it is now, into a new or empty folder. The ledger may go on meanwhile.

    Raises:
        ExportError: the folder cannot be used, a file cannot be written, or the record does not verify.
        Violation: the record contradicts itself.
        RecordMismatchError: there is no ledger in this database.
    """
    create_folder(folder)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        identity = await read_identity(connection)
        heads = await read_heads(connection)
        exported_heads = [ExportedHead(one, heads[one].sequence, heads[one].hash.hex()) for one in sorted(heads)]
        exported_at = await connection.fetchval(sql("ledger.event_store", "overview_clock"))
        files = await _write_events(connection, folder, exported_heads, progress)
        quarantine = RowStream(connection, sql(_PACKAGE, "export_quarantine"))
        interventions = RowStream(connection, sql(_PACKAGE, "export_interventions"))
        manifest = Manifest(
            format=FORMAT,
            version=FORMAT_VERSION,
            ledger_id=identity.ledger_id,
            partitions=identity.partitions,
            exported_at=exported_at,
            events=sum(head.sequence for head in exported_heads),
            apps=sorted({app for head in heads.values() for app in head.logs}),
            heads=exported_heads,
            event_files=files,
            quarantine=await _write_rows(quarantine, folder, QUARANTINE, lambda row: QuarantinedLine(**row)),
            interventions=await _write_rows(interventions, folder, INTERVENTIONS, dict),
        )
    write_manifest(folder, manifest)
    return manifest


async def merged_events(connection: asyncpg.Connection, heads: Iterable[ExportedHead]) -> AsyncIterator[ArchivedEvent]:
    """The events of these partitions up to their heads, in the order in which they happened."""
    filled = [head for head in heads if head.sequence]
    rows_per_fetch = min(ROWS_PER_FETCH, max(ROWS_PER_FETCH_MIN, ROWS_AHEAD_MAX // max(1, len(filled))))
    statement = sql("ledger.event_store", "read_events")
    waiting: list[tuple[datetime, int, ArchivedEvent, RowStream]] = []

    async def wait_for_next(stream: RowStream, prev_hash: bytes) -> None:
        row = await stream.peek()
        if row is not None:
            stream.take()
            event = archived_event(row, prev_hash)
            heapq.heappush(waiting, (event.occurred_at, event.partition, event, stream))

    for head in filled:
        stream = RowStream(connection, statement, head.partition, 1, head.sequence, rows_per_fetch=rows_per_fetch)
        await wait_for_next(stream, GENESIS)
    while waiting:
        _, _, event, stream = heapq.heappop(waiting)
        yield event
        await wait_for_next(stream, bytes.fromhex(event.hash))


async def _write_events(
    connection: asyncpg.Connection, folder: Path, heads: list[ExportedHead], progress: Progress
) -> list[ExportedFile]:
    total = sum(head.sequence for head in heads)
    chain = ExportedChain(len(heads))
    writer = _EventsWriter(folder)
    progress(0, total)
    try:
        async for event in merged_events(connection, heads):
            chain.see(event)
            done = writer.write(event)
            if done % WRITE_EVENTS == 0:
                progress(done, total)
        chain.finish(heads)
        files = writer.close()
    finally:
        writer.abandon()
    progress(total, total)
    return files


class _EventsWriter:
    """Events into one file after the other."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: list[ExportedFile] = []
        self._writer: LinesWriter | None = None
        self._waiting: list[ArchivedEvent] = []
        self._done = 0

    def write(self, event: ArchivedEvent) -> int:
        """Take the next event; how many were taken."""
        self._waiting.append(event)
        self._done += 1
        if len(self._waiting) == WRITE_EVENTS:
            self._flush()
        return self._done

    def close(self) -> list[ExportedFile]:
        """The files, all ended."""
        self._flush()
        self._end_file()
        return self._files

    def abandon(self) -> None:
        """Let go of the file that is open, if one is."""
        if self._writer is not None:
            self._writer.abandon()

    def _flush(self) -> None:
        if self._waiting:
            if self._writer is None:
                self._writer = LinesWriter(self._folder, f"events-{len(self._files) + 1:06}.jsonl.gz")
            self._writer.write(self._waiting)
            self._waiting = []
            if self._writer.lines >= FILE_EVENTS_MAX:
                self._end_file()

    def _end_file(self) -> None:
        if self._writer is not None:
            self._files.append(self._writer.close())
            self._writer = None


async def _write_rows(stream: RowStream, folder: Path, name: str, line: Callable[[Any], Any]) -> ExportedFile:
    writer = LinesWriter(folder, name)
    try:
        while rows := await stream.batch():
            writer.write([line(row) for row in rows])
        return writer.close()
    finally:
        writer.abandon()
