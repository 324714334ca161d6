"""Where a client gets its ways to Kafka from: the real one, or a twin in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import Publisher, RecordReader


class Connection(Protocol):
    """Makes what a client needs of Kafka. Publishers and readers are started by whoever asked for them."""

    def publisher(self) -> Publisher:
        """A new publisher: one that has failed is never used again."""

    def reader(self) -> RecordReader:
        """A new reader."""

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics and their numbers of partitions. Raises BrokerUnavailableError."""


@dataclass(frozen=True, slots=True)
class KafkaConnection:
    """The real Kafka."""

    kafka: KafkaServers | str
    client_id: str

    def publisher(self) -> Publisher:
        """A new idempotent producer."""
        return KafkaPublisher(self.kafka, client_id=self.client_id)

    def reader(self) -> RecordReader:
        """A new reader without a group."""
        return KafkaRecordReader(self.kafka, client_id=self.client_id)

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics of the cluster. Raises BrokerUnavailableError."""
        async with KafkaTopicAdmin(self.kafka, client_id=self.client_id) as admin:
            return await admin.partition_counts()
