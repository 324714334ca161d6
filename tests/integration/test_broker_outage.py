"""Kafka that dies, freezes and comes back: nothing hangs, nothing is lost, nothing comes twice by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from ledger.broker import cluster_queries, kafka_publisher, kafka_reader
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import BrokerUnavailableError, PublishError, Record, TopicPartition, TopicSpec
from service.stack.local_kafka import LocalKafka
from service.stack.ports import choose_free, is_free
from service.stack.resolver import default_cache
from tests.contract.clusters import outgoing, unique
from tests.greetings import Lines
from tests.servers import server_home

# Killing and restarting a broker of its own takes about a minute: in `make test-all` and in CI.
pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def mortal_kafka() -> Iterator[LocalKafka]:
    """A broker of these tests' own, which they may kill."""
    with server_home() as home:
        kafka = LocalKafka(home / "kafka", default_cache(), *choose_free(2))
        yield kafka
        asyncio.run(kafka.stop(Lines()))


@pytest.fixture
async def kafka(mortal_kafka: LocalKafka) -> AsyncIterator[LocalKafka]:
    """The broker, running."""
    await mortal_kafka.start(Lines())
    yield mortal_kafka
    send(mortal_kafka, signal.SIGCONT)


def send(kafka: LocalKafka, sent: signal.Signals) -> None:
    if kafka.process.pid is not None:
        os.kill(kafka.process.pid, sent)


async def kill(kafka: LocalKafka) -> None:
    send(kafka, signal.SIGKILL)
    port = int(kafka.address.rpartition(":")[2])
    async with asyncio.timeout(10):
        # Its threads may hold the port a moment longer than it counts as running. Nothing tells when they are gone.
        while kafka.process.pid is not None or not is_free(port):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def new_topic(kafka: LocalKafka, partitions: int = 1) -> str:
    name = unique("topic")
    async with KafkaTopicAdmin(kafka.address) as admin:
        await admin.create([TopicSpec(name, partitions, 1, -1)])
    return name


async def publish(kafka: LocalKafka, topic: str, *values: bytes) -> int:
    publisher = KafkaPublisher(kafka.address)
    await publisher.start()
    try:
        return await publisher.publish(topic, 0, outgoing(*values))
    finally:
        await publisher.stop()


async def lasted(call: Awaitable[object]) -> float:
    """Seconds until the call returned."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()
    await call
    return loop.time() - begun_s


async def until_unavailable(poll: Callable[[], Awaitable[list[Record]]]) -> list[Record]:
    records: list[Record] = []
    try:
        while True:
            records += await poll()
    except BrokerUnavailableError:
        return records


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
async def test_the_reader_tells_that_kafka_is_away_and_reads_on_when_it_is_back(
    kafka: LocalKafka, how: signal.Signals
) -> None:
    topic = await new_topic(kafka)
    place = TopicPartition(topic, 0)
    await publish(kafka, topic, b"0", b"1", b"2")
    reader = KafkaRecordReader(kafka.address)
    await reader.start()
    reader.assign({place: 0})

    async def poll() -> list[Record]:
        return list(await reader.poll(2, 1.0))

    records = await poll()
    assert [record.offset for record in records] == [0, 1]
    if how is signal.SIGKILL:
        await kill(kafka)
    else:
        send(kafka, how)
    async with asyncio.timeout(kafka_reader.REQUEST_TIMEOUT_MS / 1000 + 2 * cluster_queries.QUERY_LIMIT_S + 1):
        records += await until_unavailable(poll)
        for question in (lambda: reader.bounds([place]), reader.partition_counts):
            with pytest.raises(BrokerUnavailableError):
                await question()
    if how is signal.SIGKILL:
        await kafka.start(Lines())
    else:
        send(kafka, signal.SIGCONT)
    await publish(kafka, topic, b"3")
    async with asyncio.timeout(30):
        while len(records) < 4:
            try:
                records += await poll()
            except BrokerUnavailableError:
                await asyncio.sleep(0.1)
    assert [(record.offset, record.value) for record in records] == [(0, b"0"), (1, b"1"), (2, b"2"), (3, b"3")]
    await reader.stop()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_publication_and_a_stop_end_within_their_limits_when_kafka_dies(
    kafka: LocalKafka, how: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiokafka's idempotent send, and its stop, would go on for ever."""
    monkeypatch.setattr(kafka_publisher, "ACKNOWLEDGE_LIMIT_S", 2.0)
    topic = await new_topic(kafka)
    publisher = KafkaPublisher(kafka.address)
    await publisher.start()
    assert await publisher.publish(topic, 0, outgoing(b"before")) == 0
    if how is signal.SIGKILL:
        await kill(kafka)
    else:
        send(kafka, how)

    async def fail() -> None:
        with pytest.raises(PublishError):
            await publisher.publish(topic, 0, outgoing(b"in doubt"))

    assert await lasted(fail()) < 2.5
    assert await lasted(fail()) < 0.1, "the failure is its end"
    assert await lasted(publisher.stop()) < kafka_publisher.STOP_LIMIT_S + 0.5


async def test_an_ended_publisher_sends_nothing_any_more_when_kafka_is_back(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its successor has published newer records by then, and an old one must not follow them."""
    monkeypatch.setattr(kafka_publisher, "ACKNOWLEDGE_LIMIT_S", 1.0)
    topic = await new_topic(kafka)
    publisher = KafkaPublisher(kafka.address)
    await publisher.start()
    await publisher.publish(topic, 0, outgoing(b"before"))
    await kill(kafka)
    with pytest.raises(PublishError):
        await publisher.publish(topic, 0, outgoing(b"old"))
    await kafka.start(Lines())  # the ended one is not even stopped
    assert await publish(kafka, topic, b"new") == 1
    reader = KafkaRecordReader(kafka.address)
    await reader.start()
    place = TopicPartition(topic, 0)
    reader.assign({place: 0})
    records = list(await reader.poll(10, 2.0))
    records += await reader.poll(10, 2.0)
    assert [record.value for record in records] == [b"before", b"new"]
    await reader.stop()
    await publisher.stop()


async def test_publications_side_by_side_fail_together(kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose partition does not exist ends the producer; the others do not wait for their own limit."""
    topic = await new_topic(kafka)
    publisher = KafkaPublisher(kafka.address)
    await publisher.start()
    await publisher.publish(topic, 0, outgoing(b"before"))
    send(kafka, signal.SIGSTOP)
    waiting = asyncio.create_task(publisher.publish(topic, 0, outgoing(b"in doubt")))
    await asyncio.sleep(0.1)
    with pytest.raises(PublishError):
        await publisher.publish(topic, 5, outgoing(b"nowhere"))
    async with asyncio.timeout(1):
        with pytest.raises(PublishError, match="in doubt"):
            await waiting
    send(kafka, signal.SIGCONT)
    await publisher.stop()


async def test_a_member_keeps_or_gets_back_its_partitions_when_kafka_was_away(kafka: LocalKafka) -> None:
    topic = await new_topic(kafka, partitions=4)
    member = KafkaMembership(kafka.address, unique("group"), topic, loop_stall_limit_s=120)
    await member.start()
    await member.changed(0, 20.0)
    assert member.wanted == frozenset(range(4))
    await kill(kafka)
    await kafka.start(Lines())
    newcomer = KafkaMembership(kafka.address, member._group_id, topic, loop_stall_limit_s=120)
    await newcomer.start()
    async with asyncio.timeout(60):
        while sorted([*(member.wanted or ()), *(newcomer.wanted or ())]) != [0, 1, 2, 3] or not newcomer.wanted:
            await newcomer.changed(newcomer.generation, 0.2)
    await kill(kafka)
    assert await lasted(asyncio.gather(member.stop(), newcomer.stop())) < 7.0


async def test_nothing_starts_without_kafka_and_everything_can_be_started_later(kafka: LocalKafka) -> None:
    await kill(kafka)
    reader, publisher = KafkaRecordReader(kafka.address), KafkaPublisher(kafka.address)
    admin, member = KafkaTopicAdmin(kafka.address), KafkaMembership(kafka.address, unique("group"), "t")
    parts = (reader, publisher, admin, member)
    for part in parts:
        with pytest.raises(BrokerUnavailableError):
            await part.start()
    await kafka.start(Lines())
    for part in parts:
        await part.start()
    for part in parts:
        await part.stop()
