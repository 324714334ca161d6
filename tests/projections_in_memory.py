"""Projection workers on the in-memory twins of Kafka and Postgres."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import msgspec

from ledger.domain.event import RecordedEvent
from ledger.event_store.protocol import Appended
from ledger.messages.event_codec import encode_event
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord, Step, no_fault
from projections.testing import InMemoryCheckpoint, InMemoryProjections, InMemoryProjectionStore
from projections.worker import ProjectionWorker
from tests.contract.hand import Hand

TOPIC = "ledger.events"
GROUP = "ledger.projections"
READ_MODELS = ("balances", "statements")
WAIT_S = 20.0


class ProjectedLedger:
    """A record, its topic and its read models, all in memory."""

    def __init__(self, partitions: int = 3) -> None:
        self.record = InMemoryRecord.initialised(uuid4(), partitions, lambda: datetime.now(UTC))
        self.store = InMemoryEventStore(self.record)
        self.broker = InMemoryBroker()
        self.broker.create_topic(TOPIC, partitions)
        self.projections = InMemoryProjections(self.record)
        self.projections.install(READ_MODELS)
        self.hand = Hand(self.store)

    async def write(self, partition: int, count: int = 1, owner: str | None = None) -> list[RecordedEvent]:
        """Append so many entries to the record; they are not published."""
        if partition not in self.hand.places:
            await self.hand.claim(partition)
        after = self.hand.places[partition].sequence
        for _ in range(count):
            self.hand.entry(partition, 5, owner_id=owner or f"owner of {partition}")
        assert isinstance(await self.hand.write(), Appended)
        return list(await self.store.read_events(partition, after, count))

    def publish(self, *events: RecordedEvent) -> None:
        """Append these to the topic."""
        for event in events:
            self.broker.append(TOPIC, event.partition, event.owner_id.encode(), encode_event(event))

    async def write_and_publish(self, partition: int, count: int = 1) -> list[RecordedEvent]:
        """Both."""
        events = await self.write(partition, count)
        self.publish(*events)
        return events

    def worker(self, holder: str = "one", step: Step = no_fault) -> ProjectionWorker:
        """A worker that has not started."""
        return ProjectionWorker(
            events_topic=TOPIC,
            membership=self.broker.membership(GROUP, TOPIC),
            reader=self.broker.reader(),
            store=InMemoryProjectionStore(self.projections, step),
            read_models=READ_MODELS,
            holder=holder,
            random=random.Random(holder),
        )

    @asynccontextmanager
    async def projecting(self, holder: str = "one", step: Step = no_fault) -> AsyncIterator[ProjectionWorker]:
        """A worker that runs, and stops orderly."""
        worker = self.worker(holder, step)
        task = asyncio.create_task(worker.run())
        try:
            yield worker
        finally:
            worker.stop()
            await asyncio.wait_for(task, WAIT_S)

    def feed(self, partition: int, read_model: str = "balances") -> InMemoryCheckpoint:
        """The active checkpoint and what was taken."""
        return self.projections.active(read_model, partition)

    async def until_projected(self, partition: int, sequence: int) -> None:
        """Wait until every read model has got there."""
        await until(lambda: all(self.feed(partition, name).sequence >= sequence for name in READ_MODELS))

    async def until_halted(self, partition: int, read_model: str = "balances") -> str:
        """Wait until a feed stands still, and answer why."""
        await until(lambda: self.feed(partition, read_model).halted_because is not None)
        return self.feed(partition, read_model).halted_because or ""

    def assert_exact(self, partition: int) -> None:
        """Every event of the record up to the checkpoint was taken once, in order (invariant 9)."""
        for name in READ_MODELS:
            feed = self.feed(partition, name)
            assert [event.sequence for event in feed.taken] == list(range(1, feed.sequence + 1))
            assert feed.sequence == 0 or feed.taken[-1].hash == feed.hash


def forged(event: RecordedEvent, **changes: object) -> RecordedEvent:
    """The event as another history would have it."""
    return msgspec.structs.replace(event, **{"hash": "f" * 64, **changes})


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  (what is waited for has no event)
            await asyncio.sleep(0.005)
