"""What `ledger.events` holds that the record lacks, or holds otherwise: the events that a restored record has lost."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from ledger.broker.protocol import Bounds, BrokerUnavailableError, Record, RecordReader, TopicPartition
from ledger.domain.event import RecordedEvent
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S
from ledger.messages.event_codec import UnreadableEventError, decode_event
from ledger.sql_files import sql

STEP_RECORDS: Final = 2_000
"""How far one step goes back in a log, in search of where it leaves the record."""

POLL_WAIT_S: Final = 1.0
SILENCE_LIMIT_S: Final = 30.0
"""Kafka counts as away when it has handed out nothing for so long."""


@dataclass(frozen=True, slots=True)
class LostTail:
    """What one partition of the topic holds and the record does not."""

    partition: int
    head: int
    """Where the record ends."""
    first: int
    last: int
    """The lowest and the highest sequence that is lost."""
    events: int
    """How many events are lost, each counted once."""
    unreadable: int = 0
    """Records of the topic that are no event of this partition."""

    def __str__(self) -> str:
        first, last = f"{self.partition}:{self.first}", f"{self.partition}:{self.last}"
        span = f"event {first}" if self.first == self.last else f"{self.events} events, {first} to {last}"
        return f"{span}; the record ends at {self.partition}:{self.head}"


OnLost = Callable[[RecordedEvent], None]


async def find_lost(
    reader: RecordReader,
    connection: asyncpg.Connection,
    topic: str,
    heads: Mapping[int, int],
    on_lost: OnLost,
) -> list[LostTail]:
    """Compare the end of the topic with the record, as far back as they differ.

    Args:
        reader: a started one.
        connection: of a role that reads the record.
        topic: of the published events.
        heads: where the record ends, by partition.
        on_lost: takes each lost event, in the order of the topic; a repeated one again.

    Raises:
        BrokerUnavailableError: Kafka is away.
    """
    search = _Search(reader, connection, topic)
    places = [TopicPartition(topic, partition) for partition in heads]
    bounds = await reader.bounds(places)
    tails = []
    for place in places:
        tail = await search.tail(place, bounds[place], heads[place.partition], on_lost)
        if tail is not None:
            tails.append(tail)
    return tails


class _Search:
    def __init__(self, reader: RecordReader, connection: asyncpg.Connection, topic: str) -> None:
        self._reader = reader
        self._connection = connection
        self._topic = topic

    async def tail(self, place: TopicPartition, bounds: Bounds, head: int, on_lost: OnLost) -> LostTail | None:
        start = bounds.end
        while start > bounds.start:
            start, end = max(bounds.start, start - STEP_RECORDS), start
            records = [record async for record in self._records(place, start, end)]
            if records and not await self._differing(place.partition, head, records[:1]):
                break  # what lies before it agrees: a log follows the record until it leaves it
        sequences: set[int] = set()
        unreadable = 0
        batch: list[Record] = []

        async def take() -> None:
            nonlocal unreadable
            for event in await self._differing(place.partition, head, batch):
                if event is None:
                    unreadable += 1
                else:
                    sequences.add(event.sequence)
                    on_lost(event)
            batch.clear()

        async for record in self._records(place, start, bounds.end):
            batch.append(record)
            if len(batch) == STEP_RECORDS:
                await take()
        await take()
        if not sequences and not unreadable:
            return None
        return LostTail(
            place.partition,
            head,
            min(sequences, default=head),
            max(sequences, default=head),
            len(sequences),
            unreadable,
        )

    async def _records(self, place: TopicPartition, start: int, end: int) -> AsyncIterator[Record]:
        if start >= end:
            return
        self._reader.assign({place: start})
        loop = asyncio.get_running_loop()
        heard_at = loop.time()
        try:
            while True:
                for record in await self._reader.poll(STEP_RECORDS, POLL_WAIT_S):
                    heard_at = loop.time()
                    if record.offset < end:
                        yield record
                    if record.offset >= end - 1:
                        return
                if self._reader.caught_up(place):
                    return  # a log can end in a marker that is no record
                if loop.time() - heard_at > SILENCE_LIMIT_S:
                    raise BrokerUnavailableError(f"{place} gives nothing behind offset {start}")
        finally:
            self._reader.assign({})

    async def _differing(self, partition: int, head: int, records: Sequence[Record]) -> list[RecordedEvent | None]:
        """Of these records the events that the record does not hold so; None for what is no event of the partition."""
        events = [_event_of(record) for record in records]
        sequences = sorted({event.sequence for event in events if event is not None})
        rows = await self._connection.fetch(
            sql("service.republishing", "recorded_hashes"), partition, sequences, timeout=FETCH_TIMEOUT_S
        )
        recorded = {row["sequence"]: row["hash"].hex() for row in rows}
        return [
            event
            for event in events
            # Up to the head, an event that is not there was archived.
            if event is None or event.sequence > head or recorded.get(event.sequence, event.hash) != event.hash
        ]


def _event_of(record: Record) -> RecordedEvent | None:
    try:
        event = decode_event(record.value)
    except UnreadableEventError:
        return None
    return event if event.partition == record.partition else None
