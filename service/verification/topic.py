"""`ledger.events` tells exactly what the record holds: every event at least once, for the first time in order."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import asyncpg
import msgspec

from ledger.broker.protocol import Bounds, Record, RecordReader, TopicPartition
from ledger.domain.chain import GENESIS
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.rows import recorded_event
from ledger.event_store.verification_checks import Check, Violation
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S, RowStream
from ledger.messages.event_codec import UnreadableEventError, decode_event
from ledger.sql_files import sql

POLL_RECORDS_MAX: Final = 2_000
POLL_WAIT_S: Final = 1.0
SILENT_POLLS_MAX: Final = 30
"""Polls without a record, one after another, before Kafka counts as away."""

ROWS_PER_FETCH: Final = 500
"""Of each partition; all partitions are read at the same time."""

REPEATS_PER_LOOK_UP: Final = 1_000
_PACKAGE: Final = "service.verification"
_RECORD: Final = "ledger.event_store"


class TopicSilentError(Exception):
    """Kafka said how far a partition goes, but does not hand out its records."""


class TopicAuditor:
    """Compares the topic with the record in the connection's snapshot."""

    def __init__(self, connection: asyncpg.Connection, reader: RecordReader, topic: str) -> None:
        self._connection = connection
        self._reader = reader
        self._topic = topic

    async def verify(
        self,
        bounds: Mapping[int, Bounds],
        published: Mapping[int, int],
        heads: Mapping[int, int],
        progress: Callable[[int, int], None],
    ) -> int:
        """Compare all partitions; how many records the topic held.

        Args:
            bounds: what the topic held before the snapshot was taken: all of it must be in the snapshot.
            published: the `published_sequence` of each partition before the bounds were asked for: all of that must
                lie within the bounds.
            heads: the head of each partition in the snapshot.
            progress: takes how many records were compared, and of how many.

        Raises:
            Violation: the first disagreement.
            TopicSilentError, BrokerUnavailableError: Kafka is away.
        """
        total = sum(bound.end - bound.start for bound in bounds.values())
        audits = {
            partition: _PartitionAudit(self._connection, self._topic, partition, heads[partition])
            for partition in bounds
        }
        # All at once: the reader asks the broker for whatever it has, of every partition in one request.
        self._reader.assign({TopicPartition(self._topic, one): bound.start for one, bound in bounds.items()})
        unread = {partition for partition, bound in bounds.items() if bound.start < bound.end}
        done, silent = 0, 0
        progress(done, total)
        while unread:
            records = await self._reader.poll(POLL_RECORDS_MAX, POLL_WAIT_S)
            for record in records:
                if record.partition not in unread:
                    continue  # published since the bounds were asked for
                await audits[record.partition].see(record)
                done += 1
                if record.offset + 1 >= bounds[record.partition].end:
                    unread.discard(record.partition)
            progress(done, total)
            silent = 0 if records else silent + 1
            if silent:
                # A log can end in a marker that is no record.
                unread = {one for one in unread if not self._reader.caught_up(TopicPartition(self._topic, one))}
            if silent > SILENT_POLLS_MAX:
                raise TopicSilentError(f"{self._topic} gives nothing more of partitions {sorted(unread)}")
        self._reader.assign({})
        for partition, audit in sorted(audits.items()):
            await audit.finish(published[partition])
        return total


class _PartitionAudit:
    def __init__(self, connection: asyncpg.Connection, topic: str, partition: int, head: int) -> None:
        self._connection = connection
        self._topic = topic
        self._partition = partition
        self._head = head
        self._rows = RowStream(
            connection, sql(_PACKAGE, "events_of_partition"), partition, rows_per_fetch=ROWS_PER_FETCH
        )
        self._next = 1
        self._prev_hash = GENESIS
        self._repeats: list[tuple[Record, RecordedEvent]] = []

    async def see(self, record: Record) -> None:
        where = f"{record.topic}:{record.partition}:{record.offset}"
        try:
            event = decode_event(record.value)
        except UnreadableEventError as error:
            raise Violation(Check.PUBLISHED, where, str(error)) from error
        if event.partition != self._partition:
            raise Violation(Check.PUBLISHED, where, f"it holds {event.position}, an event of another partition")
        if event.sequence > self._head:
            raise Violation(
                Check.PUBLISHED,
                str(event.position),
                f"{where} holds it, but the record ends at {self._partition}:{self._head}",
            )
        if event.sequence > self._next:
            raise Violation(
                Check.PUBLISHED,
                f"{self._partition}:{self._next}",
                f"{event.position} was published before it, at {where}",
            )
        if event.sequence < self._next:
            self._repeats.append((record, event))
            if len(self._repeats) >= REPEATS_PER_LOOK_UP:
                await self._compare_repeats()
            return
        row: Any = await self._rows.peek()
        if row is None or row["sequence"] != event.sequence:
            raise Violation(Check.PUBLISHED, str(event.position), f"{where} holds it, the record does not")
        self._rows.take()
        _compare(record, event, recorded_event(row, self._prev_hash), row["metadata_digest"] is not None)
        self._prev_hash = row["hash"]
        self._next += 1

    async def finish(self, published_sequence: int) -> None:
        await self._compare_repeats()
        if self._next <= published_sequence:
            raise Violation(
                Check.PUBLISHED,
                f"{self._partition}:{self._next}",
                f"it is noted as published (up to {published_sequence}), but {self._topic} does not hold it",
            )

    async def _compare_repeats(self) -> None:
        if not self._repeats:
            return
        positions = {event.position for _, event in self._repeats}
        rows = await self._connection.fetch(
            sql(_RECORD, "read_events_at"),
            [position.partition for position in positions],
            [position.sequence for position in positions],
            timeout=FETCH_TIMEOUT_S,
        )
        recorded = {Position(row["partition"], row["sequence"]): row for row in rows}
        for record, event in self._repeats:
            row = recorded[event.position]
            expected = recorded_event(row, row["prev_hash"] or GENESIS)
            _compare(record, event, expected, row["metadata_digest"] is not None)
        self._repeats.clear()


def _compare(record: Record, published: RecordedEvent, recorded: RecordedEvent, had_metadata: bool) -> None:
    if had_metadata and recorded.metadata is None:
        # They were erased from the record; the topic keeps what it was given.
        published = msgspec.structs.replace(published, metadata=None)
    where = f"{record.topic}:{record.partition}:{record.offset}"
    differing = [
        field for field in RecordedEvent.__struct_fields__ if _field(published, field) != _field(recorded, field)
    ]
    if differing:
        fields = "; ".join(
            f"{field} is {_field(published, field)!r}, recorded is {_field(recorded, field)!r}" for field in differing
        )
        raise Violation(Check.PUBLISHED, str(recorded.position), f"{where} tells it otherwise: {fields}")
    if record.key != recorded.owner_id.encode():
        raise Violation(
            Check.PUBLISHED, str(recorded.position), f"{where} has the key {record.key!r}, not the owner's id"
        )


def _field(event: RecordedEvent, field: str) -> object:
    value = getattr(event, field)
    return bytes(value) if isinstance(value, msgspec.Raw) else value
