"""What the reader of Kafka does when its own fetching fails in a way that nobody foresaw."""

from types import SimpleNamespace
from typing import Any

import pytest

from ledger.broker.kafka_reader import RETRY_BACKOFF_S, KafkaRecordReader
from ledger.broker.protocol import BrokerUnavailableError, TopicPartition


class _UnreadableAnswers:
    """A client whose answers break the code that reads them."""

    def __init__(self) -> None:
        self.requests = 0
        self.cluster = SimpleNamespace(leader_for_partition=lambda topic_partition: 1)

    def set_topics(self, topics: object) -> None:
        pass

    async def send(self, *_: object, **__: object) -> Any:
        self.requests += 1
        return SimpleNamespace(topics=[("commands", [("no partition",)])], API_VERSION=11)

    async def close(self) -> None:
        pass


async def test_an_answer_that_cannot_be_read_is_told_and_not_asked_for_at_full_speed() -> None:
    client = _UnreadableAnswers()
    reader = KafkaRecordReader("localhost:1")
    reader._client = client  # type: ignore[assignment]  # no broker answers like this on demand
    reader.assign({TopicPartition("commands", 0): 0})
    for _ in range(3):
        with pytest.raises(BrokerUnavailableError, match="cannot be read"):
            await reader.poll(10, 10 * RETRY_BACKOFF_S)
    assert client.requests == 3
    await reader.stop()
