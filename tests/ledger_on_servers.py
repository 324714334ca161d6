"""A ledger of a test's own on the real servers: fresh topics, a fresh database, consumers in this process."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from apps.example_app.operations import ExampleAppOperations
from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import OutgoingRecord
from ledger.broker.topics_sync import sync_topics, wanted_topics
from ledger.domain.command import Command
from ledger.domain.event import RecordedEvent
from ledger.event_store.postgres import PostgresEventStore
from ledger.messages.command_codec import encode_command
from ledger.messages.command_ids import new_command_id
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from ledger.operations import BaseLedgerOperations, Registry

PARTITIONS = 4
WAIT_S = 30.0


def command(
    owner_id: str = "ada",
    operation: str = "CREDIT_ADD",
    amount: int | None = None,
    *,
    nonce: str | None = None,
    command_id: UUID | None = None,
    app: str = "example-app",
    not_after: datetime | None = None,
    credit_type: str = "credits",
    metadata: str | None = None,
) -> Command:
    """A command with everything that a test does not care about filled in."""
    return Command(
        app,
        command_id or new_command_id(),
        operation,
        owner_id,
        nonce or uuid.uuid4().hex,
        datetime.now(UTC),
        amount,
        credit_type,
        not_after,
        metadata,
    )


class LedgerOnServers:
    """Topics under a prefix of their own, and what tests do with them."""

    def __init__(
        self,
        bootstrap: str,
        database_url: str,
        partitions: int,
        classes: Sequence[type[BaseLedgerOperations]],
        copies: tuple[int, int] = (1, 1),
    ) -> None:
        """`copies`: of each topic, and how many of them must be in sync."""
        self.bootstrap = bootstrap
        self.database_url = database_url
        self.partitions = partitions
        self.copies = copies
        self.registry = Registry(classes)
        self.topics = Topics(f"t{uuid.uuid4().hex[:12]}")
        self.publisher = KafkaPublisher(bootstrap)
        self.admin = KafkaTopicAdmin(bootstrap)
        self.pool: asyncpg.Pool

    async def start(self) -> None:
        await self.admin.start()
        await sync_topics(
            self.admin,
            wanted_topics(self.topics, list(self.registry), self.partitions, *self.copies),
            self.topics,
        )
        await self.publisher.start()
        self.pool = await asyncpg.create_pool(self.database_url, min_size=1, max_size=4)

    async def stop(self) -> None:
        await self.pool.close()
        await self.publisher.stop()
        await self.admin.stop()

    def consumer(self, holder: str = "one") -> LedgerConsumer:
        """A consumer that has not started."""
        return LedgerConsumer(
            holder=holder,
            store=PostgresEventStore(self.database_url, f"test consumer {holder}"),
            reader=KafkaRecordReader(self.bootstrap),
            tail_reader=KafkaRecordReader(self.bootstrap),
            membership=KafkaMembership(self.bootstrap, self.topics.consumer_group, self.topics.events),
            open_publisher=lambda: KafkaPublisher(self.bootstrap),
            rules=self.registry,
            topics=self.topics,
            partitions=self.partitions,
            clock=RecordClock(),
            random=random.Random(holder),
        )

    def store(self, application: str = "test") -> PostgresEventStore:
        """The record, on connections of its own."""
        return PostgresEventStore(self.database_url, application)

    @asynccontextmanager
    async def running(self, holder: str = "one") -> AsyncIterator[LedgerConsumer]:
        """A consumer that runs, and stops orderly."""
        consumer = self.consumer(holder)
        task = asyncio.create_task(consumer.run())
        try:
            yield consumer
        finally:
            consumer.stop()
            await asyncio.wait_for(task, WAIT_S)

    def partition(self, owner_id: str) -> int:
        return partition_of(owner_id.encode(), self.partitions)

    async def send(self, *commands: Command) -> None:
        """Publish commands one after another, as their apps."""
        for one in commands:
            await self.send_bytes(encode_command(one), one.owner_id.encode(), app=one.app)

    async def send_bytes(
        self, value: bytes | None, key: bytes | None, *, app: str = "example-app", partition: int | None = None
    ) -> int:
        """Publish any bytes; returns the offset."""
        where = partition if partition is not None else partition_of(key or b"", self.partitions)
        return await self.publisher.publish(
            self.topics.commands(app),
            where,
            [OutgoingRecord(key, value)],  # type: ignore[arg-type]  # tests send what no producer of ours would
        )

    async def until(self, query: str, expected: object, *arguments: object) -> None:
        """Wait until a query over the record answers what is expected."""
        answer: object = None
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while asyncio.get_running_loop().time() < deadline:
            answer = await self.pool.fetchval(query, *arguments)
            if answer == expected:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{query} answers {answer!r} instead of {expected!r} after {WAIT_S} s")

    async def until_events(self, count: int) -> None:
        """Wait until the record holds so many events."""
        await self.until("SELECT count(*) FROM ledger.event", count)

    async def until_published(self) -> None:
        """Wait until everything in the record is noted as published."""
        await self.until("SELECT count(*) FROM ledger.partition_head WHERE published_sequence < sequence", 0)

    async def events(self) -> list[RecordedEvent]:
        """The whole record, partition by partition."""
        store = PostgresEventStore(self.database_url, "test")
        events: list[RecordedEvent] = []
        for partition in range(self.partitions):
            events += await store.read_events(partition, 0, 1_000_000)
        await store.stop()
        return events

    async def event_of(self, sent: Command) -> RecordedEvent:
        """The one event that became of a command."""
        [found] = [event for event in await self.events() if event.command_id == sent.command_id]
        return found

    async def published(self, topic: str) -> list[tuple[int, RecordedEvent]]:
        """All of a topic of events, with the partition that each lies on."""
        from ledger.broker.protocol import TopicPartition
        from ledger.messages.event_codec import decode_event

        reader = KafkaRecordReader(self.bootstrap)
        await reader.start()
        partitions = [TopicPartition(topic, partition) for partition in range(self.partitions)]
        bounds = await reader.bounds(partitions)
        reader.assign({one: bounds[one].start for one in partitions})
        count = sum(bound.end - bound.start for bound in bounds.values())
        found: list[tuple[int, RecordedEvent]] = []
        while len(found) < count:
            found += [(record.partition, decode_event(record.value)) for record in await reader.poll(1000, 1.0)]
        await reader.stop()
        return found


@asynccontextmanager
async def ledger_on_servers(
    bootstrap: str,
    database_url: str,
    partitions: int = PARTITIONS,
    classes: Sequence[type[BaseLedgerOperations]] = (ExampleAppOperations,),
    copies: tuple[int, int] = (1, 1),
) -> AsyncIterator[LedgerOnServers]:
    """Set one up in an empty database, and take it down."""
    from ledger.event_store import migrate
    from ledger.event_store.identity import initialise

    await asyncio.to_thread(migrate.upgrade, database_url)
    connection = await asyncpg.connect(database_url)
    await initialise(connection, partitions)
    await connection.close()
    ledger = LedgerOnServers(bootstrap, database_url, partitions, classes, copies)
    await ledger.start()
    try:
        yield ledger
    finally:
        await ledger.stop()
