"""Questions to the cluster that the reader and the admin ask: which topics there are, and what their logs hold."""

import asyncio
import random
from collections.abc import Collection, Mapping
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, NoError, StaleMetadata, TopicAuthorizationFailedError, for_code
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest

from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import AccessDeniedError, Bounds, BrokerUnavailableError, TopicPartition
from ledger.broker.refusals import denied

QUERY_LIMIT_S: Final = 5.0
"""A question is repeated until then while partitions change their leader or brokers do not answer."""

QUERY_BACKOFF_S: Final = 0.1
LEADERS_WAIT_S: Final = 0.5
"""How long the leaders of some partitions are waited for before the others are asked without them."""

_READ_COMMITTED: Final = 1
_EARLIEST: Final = -2
_LATEST: Final = -1
_NO_REPLICA: Final = -1


async def partition_counts(client: AIOKafkaClient) -> dict[str, int]:
    """All topics but Kafka's own and the number of partitions of each, asked of a broker now.

    Raises:
        BrokerUnavailableError: no broker answered.
    """
    try:
        async with asyncio.timeout(QUERY_LIMIT_S):
            return await _topic_sizes(client)
    except (KafkaError, TimeoutError) as error:
        client.force_metadata_update()
        raise BrokerUnavailableError(f"no broker tells its topics: {error!r}") from error


async def log_bounds(
    client: AIOKafkaClient, kafka: KafkaServers, topic_partitions: Collection[TopicPartition]
) -> Mapping[TopicPartition, Bounds]:
    """What the logs of these partitions hold; `end` is the last stable offset.

    Raises:
        AccessDeniedError: no right to ask for it.
        BrokerUnavailableError: not all of it could be learned within QUERY_LIMIT_S.
    """
    failure: KafkaError | None = None
    try:
        async with asyncio.timeout(QUERY_LIMIT_S):
            while True:
                try:
                    return await _bounds_now(client, kafka, topic_partitions)
                except KafkaError as error:
                    failure = error
                await client.force_metadata_update()
                await asyncio.sleep(QUERY_BACKOFF_S)
    except TimeoutError as error:
        raise BrokerUnavailableError(f"the ends of the logs cannot be learned: {failure or error!r}") from error


async def reachable_log_bounds(
    client: AIOKafkaClient, kafka: KafkaServers, topic_partitions: Collection[TopicPartition]
) -> Mapping[TopicPartition, Bounds]:
    """What the logs of those partitions hold that have a leader; the others are left out.

    Raises:
        BrokerUnavailableError: no partition has a leader that is known, or one that has did not answer in time.
    """
    if not topic_partitions:
        return {}
    loop = asyncio.get_running_loop()
    leaders_deadline = loop.time() + LEADERS_WAIT_S
    failure: Exception | None = None
    try:
        async with asyncio.timeout(QUERY_LIMIT_S):
            while True:
                led = [tp for tp in topic_partitions if client.cluster.leader_for_partition(tp) not in (None, -1)]
                if len(led) == len(topic_partitions) or loop.time() >= leaders_deadline:
                    try:
                        return await _bounds_now(client, kafka, led)
                    except KafkaError as error:  # what led a moment ago, by the metadata, may not any more
                        failure = error
                for topic in {tp.topic for tp in topic_partitions}:
                    client.add_topic(topic)
                if not await client.force_metadata_update():
                    raise BrokerUnavailableError("no broker tells which broker leads the partitions")
                await asyncio.sleep(QUERY_BACKOFF_S)
    except TimeoutError as error:
        raise BrokerUnavailableError(f"the ends of the logs cannot be learned: {failure or error!r}") from error


async def _bounds_now(
    client: AIOKafkaClient, kafka: KafkaServers, topic_partitions: Collection[TopicPartition]
) -> Mapping[TopicPartition, Bounds]:
    """One try. Raises KafkaError, and AccessDeniedError where no further try helps."""
    try:
        starts = await _offsets(client, topic_partitions, _EARLIEST)
        ends = await _offsets(client, topic_partitions, _LATEST)
    except TopicAuthorizationFailedError as error:
        want = denied(kafka, error, "DESCRIBE", f"topic {error.args[0]}")
        raise AccessDeniedError(want or repr(error)) from error
    return {tp: Bounds(starts[tp], ends[tp]) for tp in topic_partitions}


async def _topic_sizes(client: AIOKafkaClient) -> dict[str, int]:
    nodes = [broker.nodeId for broker in client.cluster.brokers()]
    random.shuffle(nodes)
    failure = KafkaError("no broker is known")
    for node_id in nodes:
        try:
            response = await client.send(node_id, MetadataRequest(None, allow_auto_topic_creation=False))
        except KafkaError as error:
            failure = error
            continue
        return {
            topic: len(partitions)
            for error_code, topic, is_internal, partitions in response.topics
            if not is_internal and for_code(error_code) is NoError
        }
    raise failure


async def _offsets(
    client: AIOKafkaClient, topic_partitions: Collection[TopicPartition], which: int
) -> dict[TopicPartition, int]:
    by_node: dict[int, dict[str, list[tuple[int, int]]]] = {}
    for topic_partition in topic_partitions:
        node_id = client.cluster.leader_for_partition(topic_partition)
        if node_id is None or node_id == -1:
            if topic_partition.topic in client.cluster.unauthorized_topics:
                raise TopicAuthorizationFailedError(topic_partition.topic)
            client.add_topic(topic_partition.topic)
            raise StaleMetadata(f"{topic_partition} has no known leader")
        by_node.setdefault(node_id, {}).setdefault(topic_partition.topic, []).append((topic_partition.partition, which))
    offsets: dict[TopicPartition, int] = {}
    for node_id, topics in by_node.items():
        response = await client.send(node_id, OffsetRequest(_NO_REPLICA, _READ_COMMITTED, list(topics.items())))
        for topic, partitions in response.topics:
            for partition, error_code, _, offset in partitions:
                error = for_code(error_code)
                if error is not NoError:
                    raise error(topic if error is TopicAuthorizationFailedError else f"{topic}[{partition}]")
                offsets[TopicPartition(topic, partition)] = offset
    return offsets
