"""Topics that are emptied, and who is in a consumer group, on the real cluster."""

import uuid

import pytest

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.protocol import TopicPartition
from tests.contract.clusters import kafka_cluster

pytestmark = pytest.mark.integration


async def test_an_emptied_topic_keeps_its_offsets(kafka_bootstrap: str) -> None:
    """Whoever has read it notices; of a topic that is made anew, groups would know nothing."""
    async with kafka_cluster(kafka_bootstrap) as cluster, KafkaTopicAdmin(kafka_bootstrap) as admin:
        topic = await cluster.new_topic(2)
        for partition in (0, 0, 1):
            await cluster.append(topic, partition, b"k", b"v")
        await admin.empty(topic, 2)
        await admin.empty(topic, 2)
        reader = cluster.reader()
        await reader.start()
        try:
            bounds = await reader.bounds([TopicPartition(topic, 0), TopicPartition(topic, 1)])
        finally:
            await reader.stop()
        assert [(bound.start, bound.end) for bound in bounds.values()] == [(2, 2), (1, 1)]
        assert await cluster.append(topic, 0, b"k", b"v") == 2


async def test_members_of_groups_are_named_until_they_leave(kafka_bootstrap: str) -> None:
    async with kafka_cluster(kafka_bootstrap) as cluster, KafkaTopicAdmin(kafka_bootstrap) as admin:
        topic, group, other = await cluster.new_topic(2), f"g-{uuid.uuid4().hex}", f"g-{uuid.uuid4().hex}"
        assert await admin.members([group, other]) == []
        membership = KafkaMembership(kafka_bootstrap, group, topic)
        await membership.start()
        try:
            while membership.wanted is None:
                await membership.changed(membership.generation, 1.0)
            [member] = await admin.members([other, group])
            assert member.startswith(f"{group}: ")
        finally:
            await membership.stop()
        assert await admin.members([group]) == []
