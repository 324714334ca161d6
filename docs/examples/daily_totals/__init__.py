"""A read model of one's own: what each app's operations moved, day by day."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC

import asyncpg

from ledger.domain.event import RecordedEvent
from projections.read_model import ReadModel, versioned_sql


async def write(connection: asyncpg.Connection, version: int, events: Sequence[RecordedEvent]) -> None:
    """Add events to the totals."""
    # The partition is part of the key: two workers never write the same row, and so never wait for each other.
    totals: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
    for event in events:
        day = event.occurred_at.astimezone(UTC).date()
        total = totals[event.partition, day, event.app, event.operation, event.credit_type]
        total[0] += event.accepted
        total[1] += not event.accepted
        total[2] += event.amount
    rows = [(*key, *total) for key, total in totals.items()]
    await connection.execute(versioned_sql(__name__, "add_totals", version), *map(list, zip(*rows, strict=True)))


DAILY_TOTALS = ReadModel(
    "daily_totals", __name__, write, create=("create_table",), fill=("fill",), drop=("drop_table",)
)
