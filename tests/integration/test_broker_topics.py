"""Topics on real Kafka: their settings, and what a cluster refuses."""

from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.protocol import TopicCreationError, TopicSpec
from tests.contract.clusters import unique

pytestmark = pytest.mark.integration


async def settings_of(bootstrap: str, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    finally:
        await admin.close()
    described: Any = answer
    return {setting[0]: setting[1] for setting in described.resources[0][4]}


@pytest.mark.parametrize("retention_ms", [-1, 3_600_000])
async def test_a_topic_has_the_settings_of_its_specification(kafka_bootstrap: str, retention_ms: int) -> None:
    topic = unique("topic")
    async with KafkaTopicAdmin(kafka_bootstrap) as admin:
        await admin.create([TopicSpec(topic, 2, 1, retention_ms, 1)])
    settings = await settings_of(kafka_bootstrap, topic)
    assert settings["retention.ms"] == str(retention_ms)
    assert settings["min.insync.replicas"] == "1"
    assert settings["cleanup.policy"] == "delete"


async def test_what_the_cluster_refuses_is_named_and_the_others_are_created(kafka_bootstrap: str) -> None:
    """More copies than brokers."""
    good, bad = unique("good"), unique("bad")
    async with KafkaTopicAdmin(kafka_bootstrap) as admin:
        with pytest.raises(TopicCreationError, match=bad):
            await admin.create([TopicSpec(good, 1, 1, -1), TopicSpec(bad, 1, 99, -1)])
        assert good in await admin.partition_counts()
