"""What an app imports to publish commands to the ledger and to await their outcomes.

The routers for FastAPI are in `producers.http_router` and `producers.command_status`.
"""

from ledger.broker.kafka_servers import KafkaSecurity
from producers.client import LedgerClient
from producers.command_request import CommandRequest
from producers.errors import (
    BalanceOverflow,
    ClientClosed,
    CommandRejected,
    DuplicateNonce,
    Expired,
    InsufficientCredits,
    InvalidAmount,
    InvalidCommand,
    KafkaUnavailable,
    LedgerError,
    NotPublished,
    OperationNotAllowed,
    OutcomeUnknown,
    PublishInDoubt,
    TopicUnusable,
    UnknownCreditType,
    UnknownOperation,
)
from producers.outcome import Outcome, Published
from producers.sync_client import SyncLedgerClient

__all__ = [
    "BalanceOverflow",
    "ClientClosed",
    "CommandRejected",
    "CommandRequest",
    "DuplicateNonce",
    "Expired",
    "InsufficientCredits",
    "InvalidAmount",
    "InvalidCommand",
    "KafkaSecurity",
    "KafkaUnavailable",
    "LedgerClient",
    "LedgerError",
    "NotPublished",
    "OperationNotAllowed",
    "Outcome",
    "OutcomeUnknown",
    "PublishInDoubt",
    "Published",
    "SyncLedgerClient",
    "TopicUnusable",
    "UnknownCreditType",
    "UnknownOperation",
]
