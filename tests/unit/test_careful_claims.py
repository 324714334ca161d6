"""What a ledger consumer does with a partition whose last holder died without progress."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest

from apps.example_app.operations import ExampleAppOperations
from consumers.held_partition import CAREFUL_BATCH_FIRST, HeldPartition
from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.protocol import TopicPartition
from ledger.event_store.protocol import AppendBatch, AppendResult
from ledger.messages.command_codec import encode_command
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from ledger.operations import Registry
from ledger.testing.broker import InMemoryBroker, InMemoryRecordReader
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.ledger_on_servers import command

TOPICS = Topics()
COMMANDS = 900


class CountingStore(InMemoryEventStore):
    """Knows how many commands each transaction took in."""

    def __init__(self, record: InMemoryRecord) -> None:
        super().__init__(record)
        self.consumed: list[int] = []
        self.all_consumed = asyncio.Event()

    async def append(self, batch: AppendBatch) -> AppendResult:
        self.consumed.append(sum(head.consumed for head in batch.heads))
        result = await super().append(batch)
        if sum(self.consumed) == COMMANDS:
            self.all_consumed.set()
        return result


class WellInformedReader(InMemoryRecordReader):
    """Knows of every new record at once, as one does that fetches the next records while these are processed."""

    def __init__(self, broker: InMemoryBroker) -> None:
        super().__init__(broker)
        self._log_of = broker.records

    def caught_up(self, topic_partition: TopicPartition) -> bool:
        return self._positions[topic_partition] >= len(self._log_of(*topic_partition))


@pytest.fixture
async def store() -> CountingStore:
    return CountingStore(InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime.now(UTC)))


@pytest.fixture
async def broker() -> InMemoryBroker:
    broker = InMemoryBroker()
    for topic in (TOPICS.events, TOPICS.replays, TOPICS.commands("example-app")):
        broker.create_topic(topic, 1)
    for _ in range(COMMANDS):
        one = command("ada", "CREDIT_ADD", 1)
        broker.append(TOPICS.commands("example-app"), 0, b"ada", encode_command(one))
    return broker


@asynccontextmanager
async def consumer_of(store: InMemoryEventStore, broker: InMemoryBroker, partitions: int = 1) -> AsyncIterator[None]:
    consumer = LedgerConsumer(
        holder="heir",
        store=store,
        reader=WellInformedReader(broker),
        tail_reader=broker.reader(),
        membership=broker.membership(TOPICS.consumer_group, TOPICS.events),
        open_publisher=broker.publisher,
        rules=Registry((ExampleAppOperations,)),
        topics=TOPICS,
        partitions=partitions,
        clock=RecordClock(),
        random=Random(1),
    )
    task = asyncio.create_task(consumer.run())
    yield
    consumer.stop()
    await asyncio.wait_for(task, 30)


async def all_consumed(store: CountingStore) -> None:
    async with asyncio.timeout(30):
        await store.all_consumed.wait()


async def test_a_backlog_after_two_claims_without_progress_takes_few_transactions(
    store: CountingStore, broker: InMemoryBroker
) -> None:
    """Found by a fault run: at one record to a transaction four partitions stood still for minutes, because two
    consumers had been killed one soon after the other."""
    assert await store.claim(0, "killed")
    async with consumer_of(store, broker):
        await all_consumed(store)
    assert store.consumed[0] == CAREFUL_BATCH_FIRST
    assert store.consumed == sorted(store.consumed[:-1]) + store.consumed[-1:]
    assert len(store.consumed) < 8


async def test_who_died_over_a_named_batch_is_followed_by_one_who_takes_a_single_record(
    store: CountingStore, broker: InMemoryBroker
) -> None:
    claim = await store.claim(0, "killed")
    assert claim is not None
    await store.note_trying(0, claim.epoch, f"example-app:0+{CAREFUL_BATCH_FIRST - 1}")
    async with consumer_of(store, broker):
        await all_consumed(store)
    assert store.consumed[:4] == [1, 2, 4, 8]


async def test_whoever_looks_for_a_culprit_begins_with_a_single_record(store: CountingStore) -> None:
    claim = await store.claim(0, "holder")
    assert claim is not None
    held = HeldPartition(claim, 1)
    held.tried(10)
    held.try_each_alone()
    assert held.careful
    assert held.careful_batch == 1


async def test_a_partition_whose_input_never_pauses_does_not_keep_the_others_waiting() -> None:
    """Found by a fault run: a poll never came back empty, so partitions waited until a thousand commands had trickled
    in to their neighbour, one by one."""
    partitions = 2
    owners = {partition_of(owner.encode(), partitions): owner for owner in ("ada", "bob", "eve", "joe", "sue")}
    broker = InMemoryBroker()
    for topic in (TOPICS.events, TOPICS.replays, TOPICS.commands("example-app")):
        broker.create_topic(topic, partitions)

    def send(partition: int) -> None:
        one = command(owners[partition], "CREDIT_ADD", 1)
        broker.append(TOPICS.commands("example-app"), partition, one.owner_id.encode(), encode_command(one))

    class TricklingStore(InMemoryEventStore):
        """With every transaction the neighbour gets one command more."""

        before_the_other = 0
        """Transactions until the other partition has an event."""

        async def append(self, batch: AppendBatch) -> AppendResult:
            if not record.events.get(1):
                self.before_the_other += 1
            send(0)
            return await super().append(batch)

    record = InMemoryRecord.initialised(UUID(int=1), partitions, lambda: datetime.now(UTC))
    store = TricklingStore(record)
    for partition in owners:
        send(partition)
        assert await store.claim(partition, "killed")
    async with consumer_of(store, broker, partitions):
        async with asyncio.timeout(30):
            while not record.events.get(1):  # noqa: ASYNC110 - the record tells nobody
                await asyncio.sleep(0.01)
    assert store.before_the_other < 20
