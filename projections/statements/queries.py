"""Queries of statements."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.domain.position import Position
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions, read_at_least
from projections.statements import STATEMENTS

PAGE_LINES_MAX: Final = 500
_BEHIND_EVERYTHING: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One event of an owner. A rejection has a reason, and moved nothing."""

    position: Position
    app: str
    command_id: UUID
    operation: str
    owner_id: str
    credit_type: str
    amount: int
    balance_after: int
    account_version: int
    nonce: str
    occurred_at: datetime
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class StatementPage:
    """Lines, newest first, of the statement after the event at `position`."""

    position: Position
    lines: tuple[StatementLine, ...]
    next_before: Position | None
    """Where the next page begins; None when there is none."""


class StatementReader:
    """Reads statements that contain everything this service has answered."""

    def __init__(self, pool: ReadPool, answered: AnsweredPositions, wait_limit_s: float) -> None:
        self._pool = pool
        self._answered = answered
        self._wait_limit_s = wait_limit_s

    async def page(
        self,
        owner_id: str,
        *,
        limit: int,
        before: Position | None = None,
        with_rejections: bool = False,
        credit_type: str | None = None,
        min_positions: Collection[Position] = (),
    ) -> StatementPage:
        """One page of an owner's statement.

        Args:
            owner_id: whose; an unknown owner's statement is empty.
            limit: lines, 1 to PAGE_LINES_MAX.
            before: the `next_before` of the page before this one.
            with_rejections: rejections too, beside the entries.
            credit_type: of this type only.
            min_positions: events that the answer must contain.

        Raises:
            StaleReadError: the read model did not get there in time.
            StoreUnavailableError: Postgres is away.
        """
        assert 1 <= limit <= PAGE_LINES_MAX
        partition = await self._pool.partition(owner_id)
        required = self._answered.required(partition, owner_id, min_positions)
        below = before.sequence if before is not None else _BEHIND_EVERYTHING

        async def read() -> StatementPage:
            # One line more than asked for shows whether there is a next page.
            rows = await self._pool.fetch_active(
                STATEMENTS, "read_page", owner_id, partition, below, with_rejections, limit + 1, credit_type
            )
            lines = tuple(
                StatementLine(
                    Position(row["partition"], row["sequence"]),
                    row["app"],
                    row["command_id"],
                    row["operation"],
                    row["owner_id"],
                    row["credit_type"],
                    row["amount"],
                    row["balance_after"],
                    row["account_version"],
                    row["nonce"],
                    row["occurred_at"],
                    row["reason"],
                    row["detail"],
                )
                for row in rows[:limit]
                if row["sequence"] is not None
            )
            return StatementPage(
                Position(partition, rows[0]["checkpoint_sequence"]),
                lines,
                lines[-1].position if len(rows) > limit else None,
            )

        return await read_at_least(read, required, self._wait_limit_s)
