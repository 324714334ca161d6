"""The subscriber kit: ledger events for an app's handlers. See docs/guide-subscribing.md."""

from consumers.subscriber.delivery import RetryPolicy
from consumers.subscriber.errors import (
    DivergedError,
    GapError,
    NotParkedError,
    OtherHistoryError,
    SubscriberError,
    SubscriberHaltedError,
    TopicsNotReadyError,
)
from consumers.subscriber.in_memory import EventChain, InMemoryEvents
from consumers.subscriber.lane import Outcome
from consumers.subscriber.parked import ParkedOwnerReport, discard_parked, list_parked, retry_parked
from consumers.subscriber.subscriber import LedgerSubscriber, PartitionHealth
from ledger.broker.kafka_servers import KafkaSecurity
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent

__all__ = [
    "COMMAND_REJECTED",
    "ENTRY_POSTED",
    "DivergedError",
    "EventChain",
    "GapError",
    "InMemoryEvents",
    "KafkaSecurity",
    "LedgerSubscriber",
    "NotParkedError",
    "OtherHistoryError",
    "Outcome",
    "ParkedOwnerReport",
    "PartitionHealth",
    "RecordedEvent",
    "RetryPolicy",
    "SubscriberError",
    "SubscriberHaltedError",
    "TopicsNotReadyError",
    "discard_parked",
    "list_parked",
    "retry_parked",
]
