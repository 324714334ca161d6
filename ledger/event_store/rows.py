"""Rows of the event table as recorded events."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from ledger.domain.chain import GENESIS
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from ledger.event_store.protocol import RecordMismatchError


def recorded_event(row: Any, prev_hash: bytes) -> RecordedEvent:
    """One row (a mapping by column name) as the event that was recorded."""
    metadata = row["metadata"]
    return RecordedEvent(
        type=ENTRY_POSTED if row["reason"] is None else COMMAND_REJECTED,
        partition=row["partition"],
        sequence=row["sequence"],
        app=row["app"],
        command_id=row["command_id"],
        operation=row["operation"],
        owner_id=row["owner_id"],
        credit_type=row["credit_type"],
        account_version=row["account_version"],
        amount=row["amount"],
        balance_after=row["balance_after"],
        nonce=row["nonce"],
        issued_at=_in_utc(row["issued_at"]),
        occurred_at=_in_utc(row["occurred_at"]),
        prev_hash=prev_hash.hex(),
        hash=row["hash"].hex(),
        metadata=None if metadata is None else msgspec.Raw(metadata.encode()),
        reason=row["reason"],
        detail=row["detail"],
    )


def chained_events(rows: Sequence[Any], after: int) -> list[RecordedEvent]:
    """Rows of one partition that begin with the one at `after` (or, where that is 0, with the first of all), without
    that one.

    Raises:
        RecordMismatchError: the row at `after` is missing.
    """
    prev_hash = GENESIS
    remaining: Iterable[Any] = rows
    if after > 0 and rows:
        if rows[0]["sequence"] != after:
            raise RecordMismatchError(f"the record lacks {rows[0]['partition']}:{after}; run `ledger verify`")
        prev_hash = rows[0]["hash"]
        remaining = rows[1:]
    events = []
    for row in remaining:
        events.append(recorded_event(row, prev_hash))
        prev_hash = row["hash"]
    return events


def _in_utc(time: datetime) -> datetime:
    # asyncpg writes the first and the last instant of datetime as -infinity and infinity, and reads these as the same
    # instants, but without a zone.
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
