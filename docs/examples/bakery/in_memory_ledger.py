"""The ledger without servers, for the tests of an app: its own consumer, with Kafka and Postgres in memory."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.protocol import Publisher, RecordReader
from ledger.broker.topics_sync import sync_topics, wanted_topics
from ledger.messages.topics import Topics
from ledger.operations import BaseLedgerOperations, Registry
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord

PARTITIONS = 3


class InMemoryConnection:
    """What a LedgerClient takes instead of an address."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker

    def publisher(self) -> Publisher:
        return self._broker.publisher()

    def reader(self) -> RecordReader:
        return self._broker.reader()

    async def partition_counts(self) -> Mapping[str, int]:
        return await self._broker.admin().partition_counts()


@asynccontextmanager
async def in_memory_ledger(*classes: type[BaseLedgerOperations]) -> AsyncIterator[InMemoryConnection]:
    """A ledger that decides commands of these apps by the real rules, while the block runs."""
    broker, topics, registry = InMemoryBroker(), Topics(), Registry(classes)
    await sync_topics(broker.admin(), wanted_topics(topics, registry, PARTITIONS, 1, 1), topics)
    consumer = LedgerConsumer(
        holder="test",
        store=InMemoryEventStore(InMemoryRecord.initialised(uuid4(), PARTITIONS, lambda: datetime.now(UTC))),
        reader=broker.reader(),
        tail_reader=broker.reader(),
        membership=broker.membership(topics.consumer_group, topics.events),
        open_publisher=broker.publisher,
        rules=registry,
        topics=topics,
        partitions=PARTITIONS,
        clock=RecordClock(),
        random=random.Random(0),
    )
    running = asyncio.create_task(consumer.run())
    try:
        yield InMemoryConnection(broker)
    finally:
        consumer.stop()
        await running
