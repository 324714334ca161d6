"""The clusters that every implementation of the protocol to Kafka is tested on: a real one and the in-memory one."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Protocol

from aiokafka import AIOKafkaProducer
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import Membership, OutgoingRecord, Publisher, RecordReader, TopicAdmin, TopicSpec
from ledger.testing.broker import InMemoryBroker


class Cluster(Protocol):
    """What a contract test needs: the parts under test, and what only tests do."""

    def reader(self) -> RecordReader: ...

    def publisher(self) -> Publisher: ...

    def membership(self, group_id: str, topic: str, loop_stall_limit_s: float) -> Membership: ...

    def admin(self) -> TopicAdmin: ...

    async def new_topic(self, partitions: int = 1) -> str:
        """Create a topic under a name of its own."""

    async def delete_topic(self, topic: str) -> None:
        """Delete it, as somebody may by mistake."""

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Append as a foreign client does; returns the offset."""

    async def remove_before(self, topic: str, partition: int, offset: int) -> None:
        """Remove the records below `offset`, as retention does."""


class InMemoryCluster:
    def __init__(self) -> None:
        self.broker = InMemoryBroker()
        self.reader = self.broker.reader
        self.publisher = self.broker.publisher
        self.admin = self.broker.admin

    def membership(self, group_id: str, topic: str, loop_stall_limit_s: float) -> Membership:
        return self.broker.membership(group_id, topic, loop_stall_limit_s)

    async def new_topic(self, partitions: int = 1) -> str:
        name = unique("topic")
        self.broker.create_topic(name, partitions)
        return name

    async def delete_topic(self, topic: str) -> None:
        self.broker.delete_topic(topic)

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        return self.broker.append(topic, partition, key, value)

    async def remove_before(self, topic: str, partition: int, offset: int) -> None:
        self.broker.remove_before(topic, partition, offset)


class KafkaCluster:
    def __init__(self, bootstrap: str, admin: KafkaTopicAdmin, producer: AIOKafkaProducer) -> None:
        self.bootstrap = bootstrap
        self._admin = admin
        self._producer = producer

    def reader(self) -> RecordReader:
        return KafkaRecordReader(self.bootstrap)

    def publisher(self) -> Publisher:
        return KafkaPublisher(self.bootstrap)

    def membership(self, group_id: str, topic: str, loop_stall_limit_s: float) -> Membership:
        return KafkaMembership(self.bootstrap, group_id, topic, loop_stall_limit_s=loop_stall_limit_s)

    def admin(self) -> TopicAdmin:
        return self._admin

    async def new_topic(self, partitions: int = 1) -> str:
        name = unique("topic")
        await self._admin.create([TopicSpec(name, partitions, 1, -1)])
        return name

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        batch = self._producer.create_batch()
        batch.append(timestamp=None, key=key, value=value)
        metadata = await (await self._producer.send_batch(batch, topic, partition=partition))
        return int(metadata.offset)

    async def delete_topic(self, topic: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_topics([topic])
        finally:
            await admin.close()

    async def remove_before(self, topic: str, partition: int, offset: int) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            await admin.delete_records({KafkaTopicPartition(topic, partition): RecordsToDelete(before_offset=offset)})
        finally:
            await admin.close()


@asynccontextmanager
async def kafka_cluster(bootstrap: str) -> AsyncIterator[KafkaCluster]:
    """A real cluster with what tests need beside the parts under test."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(KafkaTopicAdmin(bootstrap))
        producer = await stack.enter_async_context(AIOKafkaProducer(bootstrap_servers=bootstrap))
        yield KafkaCluster(bootstrap, admin, producer)


def unique(prefix: str) -> str:
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def outgoing(*values: bytes, key: bytes = b"owner") -> list[OutgoingRecord]:
    return [OutgoingRecord(key, value) for value in values]
