"""The one place where everything is wired: from settings and addresses to the parts of the ledger."""

import os
import socket
from collections.abc import Collection
from random import SystemRandom

from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.acls import Principals
from ledger.broker.kafka_acls import KafkaAclAdmin
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import TopicSpec
from ledger.broker.topics_sync import wanted_topics
from ledger.event_store.postgres import PostgresEventStore
from ledger.messages.topics import Topics
from ledger.operations import Registry
from ledger.settings import Settings
from producers import LedgerClient
from projections.postgres_store import PostgresProjectionStore
from projections.read_pool import ReadPool
from projections.registry import READ_MODELS
from projections.worker import ProjectionWorker
from service.stack import Addresses


class Wiring:
    """Makes the parts of one ledger. Making does no I/O; each part says when it connects."""

    def __init__(self, settings: Settings, addresses: Addresses, registry: Registry) -> None:
        self.settings = settings
        self.addresses = addresses
        self.registry = registry
        self.topics = Topics(settings.topic_prefix)
        self.kafka = KafkaServers(addresses.kafka_bootstrap_servers, settings.kafka_security())

    def admin(self) -> KafkaTopicAdmin:
        """Creates and counts topics."""
        return KafkaTopicAdmin(self.kafka)

    def acl_admin(self) -> KafkaAclAdmin:
        """Reads and changes rights."""
        return KafkaAclAdmin(self.kafka)

    def principals(self) -> Principals:
        """For whom the brokers take each part of this ledger."""
        settings = self.settings
        return Principals(
            consumer=settings.kafka_consumer_principal,
            projector=settings.kafka_projector_principal,
            operator=settings.kafka_operator_principal,
            apps=settings.kafka_app_principals,
            http=settings.kafka_http_principal,
            http_app=settings.service_app,
        )

    def reader(self) -> KafkaRecordReader:
        """Reads records without a group."""
        return KafkaRecordReader(self.kafka)

    def publisher(self) -> KafkaPublisher:
        """Publishes records."""
        return KafkaPublisher(self.kafka)

    def store(self, application: str) -> PostgresEventStore:
        """The record."""
        return PostgresEventStore(self.addresses.database("writer"), application)

    def client(self, app: str) -> LedgerClient:
        """An app's way to the ledger."""
        return LedgerClient(
            app,
            self.kafka.bootstrap_servers,
            security=self.kafka.security,
            topic_prefix=self.settings.topic_prefix,
        )

    def consumer(self, partitions: int) -> LedgerConsumer:
        """This process's part of the ledger."""
        return LedgerConsumer(
            holder=holder_name(),
            store=self.store("ledger consumer"),
            reader=self.reader(),
            tail_reader=self.reader(),
            membership=KafkaMembership(self.kafka, self.topics.consumer_group, self.topics.events),
            open_publisher=self.publisher,
            rules=self.registry,
            topics=self.topics,
            partitions=partitions,
            clock=RecordClock(),
            random=SystemRandom(),
            skew_limit_s=self.settings.clock_skew_limit_s,
        )

    def projector(self) -> ProjectionWorker:
        """This process's part of the read models."""
        return ProjectionWorker(
            events_topic=self.topics.events,
            membership=KafkaMembership(self.kafka, self.topics.projection_group(), self.topics.events),
            reader=self.reader(),
            store=PostgresProjectionStore(self.addresses.database("projector"), READ_MODELS),
            read_models=[model.name for model in READ_MODELS],
            holder=holder_name(),
            random=SystemRandom(),
        )

    def read_pool(self) -> ReadPool:
        """Connections for queries of the read models."""
        return ReadPool(self.addresses.database("reader"), "ledger cli")

    def wanted_topics(self, partitions: int, apps: Collection[str] | None = None) -> list[TopicSpec]:
        """The topics of this ledger, of all registered apps unless some are named."""
        return wanted_topics(
            self.topics,
            self.registry if apps is None else apps,
            partitions,
            self.settings.replication_factor,
            self.settings.min_insync_replicas,
        )


def holder_name(pid: int | None = None) -> str:
    """How a process of this machine (this one, if none is named) appears in `ledger status` as a holder."""
    return f"{socket.gethostname()}:{os.getpid() if pid is None else pid}"
