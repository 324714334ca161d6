"""What Publisher promises, on the real cluster and on the in-memory one."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.broker.protocol import Publisher, PublishError, TopicPartition
from tests.contract.clusters import Cluster, outgoing


@pytest.fixture
async def publisher(cluster: Cluster) -> AsyncIterator[Publisher]:
    publisher = cluster.publisher()
    await publisher.start()
    yield publisher
    await publisher.stop()


async def values_of(cluster: Cluster, topic: str, partition: int, count: int) -> list[bytes | None]:
    reader = cluster.reader()
    await reader.start()
    reader.assign({TopicPartition(topic, partition): 0})
    values: list[bytes | None] = []
    async with asyncio.timeout(20):
        while len(values) < count:
            values += [record.value for record in await reader.poll(1_000, 1.0)]
    values += [record.value for record in await reader.poll(1_000, 0.2)]
    await reader.stop()
    return values


async def test_records_are_appended_in_order_and_the_first_offset_is_returned(
    cluster: Cluster, publisher: Publisher
) -> None:
    topic = await cluster.new_topic()
    assert await publisher.publish(topic, 0, outgoing(b"a", b"b")) == 0
    assert await publisher.publish(topic, 0, outgoing(b"c")) == 2
    assert await values_of(cluster, topic, 0, 3) == [b"a", b"b", b"c"]


async def test_a_long_list_becomes_many_batches_in_order(cluster: Cluster, publisher: Publisher) -> None:
    topic = await cluster.new_topic()
    values = [b"%06d" % number + b"." * 300 for number in range(4_000)]  # 1.2 MB
    assert await publisher.publish(topic, 0, outgoing(*values)) == 0
    assert await values_of(cluster, topic, 0, len(values)) == values


async def test_a_record_larger_than_a_batch_is_published_in_its_place(cluster: Cluster, publisher: Publisher) -> None:
    topic = await cluster.new_topic()
    values = [b"small", b"x" * 600_000, b"small too"]
    assert await publisher.publish(topic, 0, outgoing(*values)) == 0
    assert await values_of(cluster, topic, 0, 3) == values


async def test_partitions_are_published_to_side_by_side(cluster: Cluster, publisher: Publisher) -> None:
    topic = await cluster.new_topic(4)
    offsets = await asyncio.gather(
        *(publisher.publish(topic, partition, outgoing(b"%d" % partition)) for partition in range(4))
    )
    assert offsets == [0, 0, 0, 0]
    for partition in range(4):
        assert await values_of(cluster, topic, partition, 1) == [b"%d" % partition]


async def test_the_first_failure_is_the_end_of_the_publisher(cluster: Cluster, publisher: Publisher) -> None:
    topic = await cluster.new_topic()
    await publisher.publish(topic, 0, outgoing(b"before"))
    with pytest.raises(PublishError):
        await publisher.publish(topic, 7, outgoing(b"to a partition that does not exist"))
    begun_s = asyncio.get_running_loop().time()
    with pytest.raises(PublishError):
        await publisher.publish(topic, 0, outgoing(b"after"))
    assert asyncio.get_running_loop().time() - begun_s < 0.5, "it is refused at once"

    successor = cluster.publisher()
    await successor.start()
    assert await successor.publish(topic, 0, outgoing(b"by the next one")) == 1
    await successor.stop()
    assert await values_of(cluster, topic, 0, 2) == [b"before", b"by the next one"]


async def test_a_cancelled_publication_is_the_end_of_the_publisher(cluster: Cluster, publisher: Publisher) -> None:
    """It may be under way, and nothing may overtake it."""
    topic = await cluster.new_topic()
    publication = asyncio.create_task(publisher.publish(topic, 0, outgoing(b"cancelled")))
    publication.cancel()
    await asyncio.wait([publication])
    started = asyncio.create_task(publisher.publish(topic, 0, outgoing(*[b"x" * 1_000] * 5_000)))
    await asyncio.sleep(0)
    started.cancel()
    await asyncio.wait([started])
    with pytest.raises(PublishError):
        await publisher.publish(topic, 0, outgoing(b"after"))


async def test_nothing_is_published_before_start_or_after_stop(cluster: Cluster) -> None:
    topic = await cluster.new_topic()
    publisher = cluster.publisher()
    with pytest.raises(PublishError):
        await publisher.publish(topic, 0, outgoing(b"early"))
    await publisher.start()
    await publisher.stop()
    await publisher.stop()
    with pytest.raises(PublishError):
        await publisher.publish(topic, 0, outgoing(b"late"))


async def test_publishing_nothing_is_a_mistake_of_the_caller(cluster: Cluster, publisher: Publisher) -> None:
    with pytest.raises(ValueError, match="nothing to publish"):
        await publisher.publish(await cluster.new_topic(), 0, [])
