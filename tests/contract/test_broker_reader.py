"""What RecordReader promises, on the real cluster and on the in-memory one."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from ledger.broker.protocol import (
    Bounds,
    BrokerUnavailableError,
    OffsetOutOfRangeError,
    Record,
    RecordReader,
    TopicPartition,
)
from tests.contract.clusters import Cluster, outgoing


@pytest.fixture
async def reader(cluster: Cluster) -> AsyncIterator[RecordReader]:
    reader = cluster.reader()
    await reader.start()
    yield reader
    await reader.stop()


async def filled_topic(cluster: Cluster, partitions: int, records: int) -> list[TopicPartition]:
    topic = await cluster.new_topic(partitions)
    publisher = cluster.publisher()
    await publisher.start()
    for partition in range(partitions):
        await publisher.publish(topic, partition, outgoing(*(b"%d" % number for number in range(records))))
    await publisher.stop()
    return [TopicPartition(topic, partition) for partition in range(partitions)]


async def read(reader: RecordReader, count: int, max_records: int = 1_000) -> list[Record]:
    """Poll until `count` records have come."""
    records: list[Record] = []
    async with asyncio.timeout(20):
        while len(records) < count:
            polled = await reader.poll(max_records, 1.0)
            assert len(polled) <= max_records
            records += polled
    return records


async def poll_on(reader: RecordReader, records: list[Record]) -> None:
    """Poll until an error comes, keeping the records that came before it."""
    async with asyncio.timeout(20):
        while True:
            records += await reader.poll(100, 1.0)


def offsets_of(records: Sequence[Record], topic_partition: TopicPartition) -> list[int]:
    return [record.offset for record in records if (record.topic, record.partition) == topic_partition]


async def test_reads_every_record_in_offset_order_from_the_assigned_offsets(
    cluster: Cluster, reader: RecordReader
) -> None:
    first, second = await filled_topic(cluster, 2, 1_500)
    reader.assign({first: 0, second: 700})
    records = await read(reader, 2_300, max_records=400)
    assert offsets_of(records, first) == list(range(1_500))
    assert offsets_of(records, second) == list(range(700, 1_500))
    assert await reader.poll(100, 0.05) == []


async def test_a_record_keeps_its_place_time_key_and_value(cluster: Cluster, reader: RecordReader) -> None:
    topic = await cluster.new_topic()
    await cluster.append(topic, 0, b"owner", b"value")
    await cluster.append(topic, 0, None, b"no key")
    await cluster.append(topic, 0, b"no value", None)
    await cluster.append(topic, 0, b"", b"")
    reader.assign({TopicPartition(topic, 0): 0})
    records = await read(reader, 4)
    assert [(record.offset, record.key, record.value) for record in records] == [
        (0, b"owner", b"value"),
        (1, None, b"no key"),
        (2, b"no value", None),
        (3, b"", b""),
    ]
    assert all((record.topic, record.partition) == (topic, 0) for record in records)
    assert all(record.timestamp_ms > 0 for record in records)


async def test_assign_replaces_the_whole_assignment_and_loses_nothing(cluster: Cluster, reader: RecordReader) -> None:
    first, second = await filled_topic(cluster, 2, 1_000)
    reader.assign({first: 0, second: 0})
    await read(reader, 10, max_records=10)
    reader.assign({first: 400})
    assert offsets_of(await read(reader, 600), first) == list(range(400, 1_000))
    reader.assign({first: 10, second: 995})
    records = await read(reader, 995)
    assert offsets_of(records, first) == list(range(10, 1_000))
    assert offsets_of(records, second) == list(range(995, 1_000))


async def test_assign_to_nothing_reads_nothing_and_still_takes_its_time(cluster: Cluster, reader: RecordReader) -> None:
    (first,) = await filled_topic(cluster, 1, 10)
    reader.assign({first: 0})
    reader.assign({})
    begun_s = asyncio.get_running_loop().time()
    assert await reader.poll(10, 0.1) == []
    assert asyncio.get_running_loop().time() - begun_s >= 0.09


async def test_a_waiting_poll_returns_as_soon_as_a_record_comes(cluster: Cluster, reader: RecordReader) -> None:
    topic = await cluster.new_topic(3)
    reader.assign({TopicPartition(topic, partition): 0 for partition in range(3)})
    await reader.poll(10, 0.3)
    waiting = asyncio.create_task(reader.poll(10, 30.0))
    await asyncio.sleep(0)
    await cluster.append(topic, 1, b"k", b"v")
    async with asyncio.timeout(10):
        assert [record.partition for record in await waiting] == [1]


async def test_a_busy_partition_does_not_hold_up_the_others(cluster: Cluster, reader: RecordReader) -> None:
    busy, quiet = await filled_topic(cluster, 2, 2_000)
    reader.assign({busy: 0, quiet: 1_990})
    records: list[Record] = []
    for _ in range(6):  # the first polls may see one partition only
        records += await reader.poll(200, 5.0)
    assert offsets_of(records, quiet) == list(range(1_990, 2_000))


async def test_with_only_the_other_partitions_wait_and_lose_nothing(cluster: Cluster, reader: RecordReader) -> None:
    first, second = await filled_topic(cluster, 2, 50)
    reader.assign({first: 0, second: 0})
    alone: list[Record] = []
    while len(alone) < 50:
        alone += await reader.poll(20, 1.0, only={second})
    assert offsets_of(alone, second) == list(range(50))
    assert await reader.poll(20, 0.05, only={second}) == []
    assert offsets_of(await read(reader, 50), first) == list(range(50))


async def test_caught_up_only_after_an_answer_that_shows_nothing_more(cluster: Cluster, reader: RecordReader) -> None:
    full, empty = await filled_topic(cluster, 1, 10), TopicPartition(await cluster.new_topic(), 0)
    reader.assign({full[0]: 0, empty: 0})
    assert not reader.caught_up(full[0])
    assert not reader.caught_up(empty)
    await read(reader, 4, max_records=4)
    assert not reader.caught_up(full[0])
    await read(reader, 6)
    async with asyncio.timeout(10):
        while not (reader.caught_up(full[0]) and reader.caught_up(empty)):
            await reader.poll(10, 0.1)
    reader.assign({full[0]: 10})
    assert not reader.caught_up(full[0]), "an answer to an earlier assignment does not count"
    assert not reader.caught_up(empty), "no longer assigned"


async def test_an_offset_that_is_gone_is_told_by_partition_and_the_others_go_on(
    cluster: Cluster, reader: RecordReader
) -> None:
    gone, sound = await filled_topic(cluster, 2, 20)
    await cluster.remove_before(gone.topic, gone.partition, 10)
    reader.assign({gone: 3, sound: 0})
    got: list[Record] = []
    with pytest.raises(OffsetOutOfRangeError) as raised:
        await poll_on(reader, got)
    assert (raised.value.topic_partition, raised.value.offset) == (gone, 3)
    assert offsets_of(got, sound) == list(range(20)), "records that came with it are not swallowed"
    reader.assign({gone: 10, sound: 20})
    assert offsets_of(await read(reader, 10), gone) == list(range(10, 20))


async def test_an_offset_above_the_end_is_out_of_range_and_the_end_itself_is_not(
    cluster: Cluster, reader: RecordReader
) -> None:
    (first,) = await filled_topic(cluster, 1, 5)
    reader.assign({first: 5})
    assert await reader.poll(10, 0.2) == []
    reader.assign({first: 6})
    with pytest.raises(OffsetOutOfRangeError):
        await poll_on(reader, [])


async def test_bounds_tell_the_first_offset_and_the_one_after_the_last(cluster: Cluster, reader: RecordReader) -> None:
    first, second = await filled_topic(cluster, 2, 20)
    await cluster.remove_before(first.topic, first.partition, 8)
    assert await reader.bounds([first, second]) == {first: Bounds(8, 20), second: Bounds(0, 20)}
    assert await reader.bounds([]) == {}


async def test_partition_counts_are_fresh(cluster: Cluster, reader: RecordReader) -> None:
    await reader.partition_counts()
    three, five = await cluster.new_topic(3), await cluster.new_topic(5)
    counts = await reader.partition_counts()
    assert (counts[three], counts[five]) == (3, 5)
    assert not any(name.startswith("__") for name in counts), "Kafka's own topics are none of ours"


async def test_can_be_started_again_after_a_stop(cluster: Cluster, reader: RecordReader) -> None:
    (first,) = await filled_topic(cluster, 1, 5)
    await reader.stop()
    with pytest.raises(BrokerUnavailableError):
        await reader.poll(1, 0.1)
    await reader.start()
    reader.assign({first: 2})
    assert offsets_of(await read(reader, 3), first) == [2, 3, 4]


async def test_a_topic_that_does_not_exist_keeps_nobody_waiting(cluster: Cluster, reader: RecordReader) -> None:
    (first,) = await filled_topic(cluster, 1, 5)
    absent = TopicPartition("no-such-topic", 0)
    reader.assign({absent: 0, first: 0})
    assert offsets_of(await read(reader, 5), first) == list(range(5))
    assert not reader.caught_up(absent)


async def test_a_partition_that_its_broker_disowned_is_doubtful_until_it_is_assigned_again(
    cluster: Cluster, reader: RecordReader
) -> None:
    (first,) = await filled_topic(cluster, 1, 5)
    reader.assign({first: 0})
    await read(reader, 5)
    assert not reader.doubtful()
    await cluster.delete_topic(first.topic)
    async with asyncio.timeout(20):
        while not reader.doubtful():
            assert await reader.poll(10, 0.1) == []
    assert list(reader.doubtful()) == [first]
    reader.assign({first: 0})
    assert not reader.doubtful()
