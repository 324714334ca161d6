"""The real ledger consumer on the in-memory twins of Kafka and Postgres, in virtual time."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.domain.command import Command
from ledger.domain.event import RecordedEvent
from ledger.domain.rules import AppRules
from ledger.event_store.protocol import EventStore
from ledger.messages.command_codec import encode_command
from ledger.messages.event_codec import decode_event
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from ledger.operations import BaseLedgerOperations, Registry
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord, Step, no_fault

APP = "shop"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
PARTITIONS = 2
WAIT_S = 120.0
"""Of virtual time, which passes at once."""


class ShopOperations(BaseLedgerOperations):
    """The base operations under an app of our own."""

    app = APP


class LedgerInMemory:
    """A cluster and a record, and consumers of them. Make it inside `virtual_time.run`."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self.partitions = partitions
        self.topics = Topics()
        self.broker = InMemoryBroker()
        self.record = InMemoryRecord.initialised(uuid.UUID(int=1), partitions, self.now)
        self.rules: Mapping[str, AppRules] = Registry([ShopOperations])
        for topic in (self.topics.events, self.topics.replays, self.topics.commands(APP)):
            self.broker.create_topic(topic, partitions)

    @staticmethod
    def now() -> datetime:
        """The record's clock."""
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def owner(self, partition: int, number: int = 0) -> str:
        """An owner who lies on this partition."""
        names = (f"owner-{index}" for index in range(10_000))
        on_it = (name for name in names if partition_of(name.encode(), self.partitions) == partition)
        return next(name for index, name in enumerate(on_it) if index == number)

    def command(self, partition: int, operation: str = "CREDIT_ADD", amount: int | None = 1) -> Command:
        """A command of an owner who lies on this partition."""
        nonce = uuid.uuid4().hex
        return Command(APP, uuid.uuid4(), operation, self.owner(partition), nonce, self.now(), amount)

    def send(self, *commands: Command) -> None:
        """Publish these commands."""
        for command in commands:
            key = command.owner_id.encode()
            place = partition_of(key, self.partitions)
            self.broker.append(self.topics.commands(command.app), place, key, encode_command(command))

    def consumer(
        self, holder: str = "one", *, step: Step = no_fault, store: EventStore | None = None, **changes: Any
    ) -> LedgerConsumer:
        """A consumer that has not started."""
        parts: dict[str, Any] = {
            "holder": holder,
            "store": store or InMemoryEventStore(self.record, step),
            "reader": self.broker.reader(),
            "tail_reader": self.broker.reader(),
            "membership": self.broker.membership(self.topics.consumer_group, self.topics.events),
            "open_publisher": self.broker.publisher,
            "rules": self.rules,
            "topics": self.topics,
            "partitions": self.partitions,
            "clock": RecordClock(lambda: asyncio.get_running_loop().time(), lambda: self.now().timestamp()),
            "random": random.Random(holder),
        }
        return LedgerConsumer(**{**parts, **changes})

    @asynccontextmanager
    async def running(self, consumer: LedgerConsumer | None = None) -> AsyncIterator[LedgerConsumer]:
        """A consumer that runs, and stops orderly."""
        consumer = consumer or self.consumer()
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
            assert not task.done(), task.result()
        finally:
            consumer.stop()
            await asyncio.wait({task}, timeout=WAIT_S)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until it holds."""
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  (what is waited for has no event)
                await asyncio.sleep(0.05)

    async def until_consumed(self, partition: int, count: int) -> None:
        """Wait until so many records of the partition's commands are consumed and their events published."""
        head = self.record.heads[partition]
        await self.until(lambda: head.consumed >= count and len(self.published(partition)) >= head.sequence)

    async def until_halted(self, partition: int) -> str:
        """Wait until the partition stands still, wholly or for the app, and answer why."""
        await self.until(lambda: partition in self.halted())
        head = self.record.heads[partition]
        return head.halted_because or "; ".join((head.halted_apps or {}).values())

    def published(self, partition: int) -> list[RecordedEvent]:
        """What `ledger.events` carries."""
        return [decode_event(record.value) for record in self.broker.records(self.topics.events, partition)]

    def halted(self) -> set[int]:
        """The partitions that stand still, wholly or for the app."""
        return {number for number, head in self.record.heads.items() if head.halted_because or head.halted_apps}

    def consumed(self, partition: int, app: str = APP) -> int:
        """The next offset of the partition's commands."""
        mark = self.record.offsets.get((app, partition))
        return 0 if mark is None else mark.next_offset


async def kill(consumer: LedgerConsumer, task: "asyncio.Task[None]") -> None:
    """End a consumer without letting it say goodbye to the record; its group notices."""

    async def in_silence(clean: bool) -> None:
        await consumer._membership.stop()

    consumer._leave = in_silence  # type: ignore[method-assign]
    task.cancel()
    await asyncio.wait({task})
    for partition in list(consumer._holdings.held):
        consumer._relay.end(partition)
