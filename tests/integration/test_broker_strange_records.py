"""Records as real Kafka takes them from foreign clients: the reader skips none and stops at none."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import Record, TopicPartition
from tests.contract.clusters import KafkaCluster, kafka_cluster, unique
from tests.record_batches import CODECS, NOT_UTF8, RawRecord, builder

pytestmark = pytest.mark.integration


@pytest.fixture
async def cluster(kafka_bootstrap: str) -> AsyncIterator[KafkaCluster]:
    async with kafka_cluster(kafka_bootstrap) as cluster:
        yield cluster


async def write_batch(bootstrap: str, topic: str, records: list[RawRecord], codec: str = "none") -> None:
    """Write one batch as it is, past aiokafka's checks."""
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, max_request_size=10_000_000) as producer:
        raw = producer.create_batch()
        raw._builder = builder(codec)
        for number, record in enumerate(records):
            raw._builder.append_raw(number, record)
        raw._relative_offset = len(records)
        await (await producer.send_batch(raw, topic, partition=0))


async def read(bootstrap: str, topic: str, count: int) -> list[Record]:
    """`count` records from the beginning, and then nothing more."""
    reader = KafkaRecordReader(bootstrap)
    await reader.start()
    place = TopicPartition(topic, 0)
    reader.assign({place: 0})
    records: list[Record] = []
    async with asyncio.timeout(20):
        while len(records) < count:
            records += await reader.poll(1_000, 1.0)
        while not reader.caught_up(place):
            records += await reader.poll(1_000, 0.1)
    await reader.stop()
    return records


@pytest.mark.parametrize("codec", CODECS)
async def test_headers_that_are_not_utf8_or_null(cluster: KafkaCluster, codec: str) -> None:
    topic = await cluster.new_topic()
    strange = [
        RawRecord(b"a", b"good"),
        RawRecord(b"b", b"strange", [(NOT_UTF8, b"1"), (b"null", None)]),
        RawRecord(b"c", b"null header", [(b"null", None)]),
        RawRecord(None, None, [(NOT_UTF8, None)]),
        RawRecord(b"e", b"good" * 100),
    ]
    await cluster.append(topic, 0, b"k", b"before")
    await write_batch(cluster.bootstrap, topic, strange, codec)
    await cluster.append(topic, 0, b"k", b"after")
    records = await read(cluster.bootstrap, topic, 7)
    assert [(record.offset, record.key, record.value) for record in records] == [
        (0, b"k", b"before"),
        *((1 + number, record.key, record.value) for number, record in enumerate(strange)),
        (6, b"k", b"after"),
    ]


async def test_aiokafkas_own_consumer_stops_at_such_a_header(cluster: KafkaCluster) -> None:
    """Why the reader does not use it. When this fails, aiokafka has mended it, and the fetch loop may go."""
    topic = await cluster.new_topic()
    await write_batch(cluster.bootstrap, topic, [RawRecord(b"a", b"1"), RawRecord(b"b", b"2", [(NOT_UTF8, b"")])])
    async with AIOKafkaConsumer(bootstrap_servers=cluster.bootstrap, auto_offset_reset="none") as consumer:
        place = KafkaTopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek(place, 0)
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                await consumer.getmany(timeout_ms=10_000)


async def test_two_megabytes_that_compress_well(cluster: KafkaCluster) -> None:
    """A value may be larger than the limit of a fetch; the broker's limit holds for the compressed batch."""
    topic = await cluster.new_topic()
    large = RawRecord(b"k", b"x" * 2_000_000)
    await write_batch(cluster.bootstrap, topic, [RawRecord(b"k", b"small"), large], "gzip")
    await cluster.append(topic, 0, b"k", b"after")
    records = await read(cluster.bootstrap, topic, 3)
    assert [len(record.value or b"") for record in records] == [5, 2_000_000, 5]


async def test_only_committed_transactions_are_read_and_their_markers_are_passed(cluster: KafkaCluster) -> None:
    topic = await cluster.new_topic()
    async with AIOKafkaProducer(bootstrap_servers=cluster.bootstrap, transactional_id=unique("tx")) as producer:
        for value, commit in ((b"aborted", False), (b"committed", True), (b"aborted too", False)):
            await producer.begin_transaction()
            await producer.send_and_wait(topic, value, key=b"k", partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        records = await read(cluster.bootstrap, topic, 1)
        assert [(record.offset, record.value) for record in records] == [(2, b"committed")]

        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"open", key=b"k", partition=0)
        await cluster.append(topic, 0, b"k", b"behind the open one")
        assert len(await read(cluster.bootstrap, topic, 1)) == 1, "it is caught up as far as can be read"
        await producer.commit_transaction()
    assert [record.value for record in await read(cluster.bootstrap, topic, 3)] == [
        b"committed",
        b"open",
        b"behind the open one",
    ]
