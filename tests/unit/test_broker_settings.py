"""With which settings Kafka's clients are made, where a default would lose or double something in silence."""

from typing import Any

import pytest

from ledger.broker import kafka_membership, kafka_publisher
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher


class MadeError(Exception):
    """Raised instead of connecting."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings


def tell(**settings: Any) -> None:
    """In the place of a client."""
    raise MadeError(settings)


async def test_a_publication_counts_when_all_in_sync_replicas_have_it_and_is_written_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kafka_publisher, "AIOKafkaProducer", tell)
    with pytest.raises(MadeError) as made:
        await KafkaPublisher("nowhere:1").start()
    assert made.value.settings["acks"] == "all"
    assert made.value.settings["enable_idempotence"] is True


async def test_the_group_commits_nothing_and_has_one_assignor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka_membership, "AIOKafkaConsumer", tell)
    with pytest.raises(MadeError) as made:
        await KafkaMembership("nowhere:1", "group", "topic").start()
    assert made.value.settings["enable_auto_commit"] is False
    assert len(made.value.settings["partition_assignment_strategy"]) == 1
