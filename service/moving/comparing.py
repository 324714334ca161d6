"""`ledger compare`: an export beside a record, event by event.

The record may be the new ledger (of any number of partitions), which then holds every owner's history in its order, or
the old one, of which the export then misses nothing. Each event of the export must be the next one on the partition
where its owner lies. Only place and hash may differ, and with them what names a place.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.domain.chain import GENESIS
from ledger.domain.position import Position
from ledger.domain.rejection import Reason
from ledger.event_store.identity import read_identity
from ledger.event_store.keys import nonce_key
from ledger.event_store.protocol import Identity
from ledger.event_store.verification import read_heads
from ledger.event_store.verification_streams import ROWS_PER_FETCH, RowStream
from ledger.messages.partitioning import partition_of
from ledger.sql_files import sql
from service.archiving.lines import ArchivedEvent, archived_event
from service.moving.export_files import Manifest
from service.moving.exported_chain import where
from service.moving.exporting import ROWS_AHEAD_MAX, ROWS_PER_FETCH_MIN

COMPARE_EVENTS: Final = 1_000
"""Events between two reports of progress, and whose nonces are looked up at a time."""

_STORE: Final = "ledger.event_store"
_OF_THE_PLACE: Final = frozenset({"partition", "sequence", "prev_hash", "hash", "command_offset", "detail"})
_SAME: Final = tuple(name for name in ArchivedEvent.__struct_fields__ if name not in _OF_THE_PLACE)

Progress = Callable[[int, int], None]
"""Takes how many events are compared, and of how many."""

OnSame = Callable[[ArchivedEvent, Position], None]
"""Takes an event of the export, and where the record holds it."""


class Difference(Exception):  # noqa: N818 - it is a finding, not a failure
    """The first thing in which export and record differ."""

    def __init__(self, place: str, what: str) -> None:
        """
        Args:
            place: the event's position in the export.
            what: what the record holds instead.
        """
        super().__init__(f"{place} of the export: {what}")
        self.where = place
        self.what = what


@dataclass(frozen=True, slots=True)
class Compared:
    """The record holds the whole export."""

    identity: Identity
    events: int
    later: int
    """Events that the record holds behind the export's."""


async def compare(
    connection: asyncpg.Connection,
    manifest: Manifest,
    events: Iterable[ArchivedEvent],
    progress: Progress,
    on_same: OnSame,
) -> Compared:
    """Compare in one snapshot; the ledger may go on meanwhile.

    Raises:
        Difference: the first one.
        ExportError: the export is damaged.
        RecordMismatchError: there is no ledger in this database.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        identity = await read_identity(connection)
        record = await _Record.opened(connection, identity.partitions)
        incoming = iter(events)
        done = 0
        progress(done, manifest.events)
        while some := list(islice(incoming, COMPARE_EVENTS)):
            refused_for = await record.positions_of_nonces(some)
            for event in some:
                found = await record.next_of(event)
                _require_same(event, found, refused_for)
                on_same(event, Position(found.partition, found.sequence))
            done += len(some)
            progress(done, manifest.events)
        return Compared(identity, done, record.total - done)


class _Record:
    """The events of all partitions, each in its order."""

    def __init__(self, connection: asyncpg.Connection, streams: Sequence[RowStream], total: int) -> None:
        self._connection = connection
        self._streams = streams
        self.total = total

    @classmethod
    async def opened(cls, connection: asyncpg.Connection, partitions: int) -> "_Record":
        heads = await read_heads(connection)
        rows_per_fetch = min(ROWS_PER_FETCH, max(ROWS_PER_FETCH_MIN, ROWS_AHEAD_MAX // partitions))
        statement = sql(_STORE, "read_events")
        streams = [
            RowStream(connection, statement, partition, 1, heads[partition].sequence, rows_per_fetch=rows_per_fetch)
            for partition in range(partitions)
        ]
        return cls(connection, streams, sum(head.sequence for head in heads.values()))

    async def next_of(self, event: ArchivedEvent) -> ArchivedEvent:
        """The next event where this one's owner lies. Raises Difference: there is none."""
        partition = partition_of(event.owner_id.encode(), len(self._streams))
        stream = self._streams[partition]
        row = await stream.peek()
        if row is None:
            raise Difference(where(event), f"the record does not hold it: its partition {partition} ends before it")
        stream.take()
        return archived_event(row, GENESIS)

    async def positions_of_nonces(self, events: Sequence[ArchivedEvent]) -> Mapping[UUID, Position]:
        """Where the record holds the entries whose nonces these events were refused for."""
        keys = {_nonce_key(event) for event in events if event.reason == Reason.DUPLICATE_NONCE}
        rows: Sequence[Any] = []
        if keys:
            rows = await self._connection.fetch(sql(_STORE, "look_up_nonces"), list(keys))
        return {row["key"]: Position(row["partition"], row["sequence"]) for row in rows}


def _require_same(event: ArchivedEvent, found: ArchivedEvent, refused_for: Mapping[UUID, Position]) -> None:
    for name in _SAME:
        ours, theirs = getattr(event, name), getattr(found, name)
        if ours != theirs:
            raise Difference(where(event), f"{name} is {ours!r}, the record holds {theirs!r} at {where(found)}")
    detail = event.detail
    if event.reason == Reason.DUPLICATE_NONCE:
        detail = str(refused_for.get(_nonce_key(event)))
    if found.detail != detail:
        raise Difference(
            where(event), f"detail should be {detail!r}, the record holds {found.detail!r} at {where(found)}"
        )


def _nonce_key(event: ArchivedEvent) -> UUID:
    return nonce_key(event.app, event.owner_id, event.nonce)
