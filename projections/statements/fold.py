"""Writes events as lines of statements."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import asyncpg

from ledger.domain.event import RecordedEvent
from projections.read_model import ReadModelMismatchError

COLUMNS: Final = (
    "partition",
    "accepted",
    "sequence",
    "amount",
    "balance_after",
    "account_version",
    "occurred_at",
    "command_id",
    "owner_id",
    "credit_type",
    "app",
    "operation",
    "nonce",
    "reason",
    "detail",
)

StatementLine = tuple[Any, ...]
"""A row in the order of COLUMNS."""


def lines(events: Iterable[RecordedEvent]) -> list[StatementLine]:
    """One line for every event; rejections are lines of their own kind, read only by whoever asks for them."""
    return [
        (
            event.partition,
            event.reason is None,
            event.sequence,
            event.amount,
            event.balance_after,
            event.account_version,
            event.occurred_at,
            event.command_id,
            event.owner_id,
            event.credit_type,
            event.app,
            event.operation,
            event.nonce,
            event.reason,
            event.detail,
        )
        for event in events
    ]


async def write(connection: asyncpg.Connection, version: int, events: Sequence[RecordedEvent]) -> None:
    """See ReadModel.write."""
    try:
        await connection.copy_records_to_table(
            f"statements_v{version}", schema_name="projections", columns=list(COLUMNS), records=lines(events)
        )
    except asyncpg.UniqueViolationError as error:
        raise ReadModelMismatchError(
            f"a line of this batch exists already ({error.detail}): something else changed "
            f"projections.statements_v{version}; run `ledger rebuild statements`"
        ) from error
