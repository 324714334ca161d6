"""What auditors are given: plain rows and bytes, as Postgres and Kafka hold them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID


class Row(NamedTuple):
    """A row of `ledger.event`, its columns in this order."""

    partition: int
    sequence: int
    account_version: int
    amount: int
    balance_after: int
    issued_at: datetime
    occurred_at: datetime
    command_offset: int
    command_id: UUID
    app: str
    operation: str
    owner_id: str
    credit_type: str
    nonce: str
    reason: str | None
    detail: str | None
    metadata: str | None
    metadata_digest: bytes | None
    hash: bytes

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "Row":
        """From a row that knows its columns by name (asyncpg's Record, a dict); others are ignored."""
        return cls._make(columns[name] for name in cls._fields)

    @property
    def place(self) -> str:
        """The position as people write it."""
        return f"{self.partition}:{self.sequence}"


class Sent(NamedTuple):
    """A record of a command topic, as Kafka holds it.

    `must_be_decided` is False for one that retention took before anybody consumed it: an event for it may exist or not.
    """

    app: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    must_be_decided: bool = True


class Quarantined(NamedTuple):
    """A row of `ledger.quarantine`."""

    app: str
    partition: int
    command_offset: int
    key: bytes | None
    value: bytes | None
