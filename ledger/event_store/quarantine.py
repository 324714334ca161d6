"""The messages that could not be read, and what an operator did about them.

Reading needs the role `ledger_reader`, resolving `ledger_owner`: the ledger itself may only add rows.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple
from uuid import UUID

import asyncpg

from ledger.sql_files import sql

LIST_ROWS_MAX: Final = 1_000
Status = Literal["waiting", "retried", "discarded"]
_ID: Final = re.compile(
    r"(?P<app>[^:@]+):(?P<partition>[0-9]{1,9}):(?P<offset>[0-9]{1,18})(@(?P<generation>[0-9]{1,9}))?"
)
_PACKAGE = "ledger.event_store"


class QuarantineId(NamedTuple):
    """Names a message by where it lay. As text, `app:partition:offset`, and `@generation` behind it when the topic had
    been made anew."""

    app: str
    partition: int
    generation: int
    command_offset: int

    def __str__(self) -> str:
        place = f"{self.app}:{self.partition}:{self.command_offset}"
        return place if self.generation == 1 else f"{place}@{self.generation}"

    @classmethod
    def parse(cls, text: str) -> "QuarantineId":
        """Read `app:partition:offset` or `app:partition:offset@generation`.

        Raises:
            ValueError: the text is no such id.
        """
        found = _ID.fullmatch(text)
        if found is None:
            raise ValueError(
                f"not an id of the quarantine: {text!r}; expected APP:PARTITION:OFFSET, as `list` shows it"
            )
        return cls(found["app"], int(found["partition"]), int(found["generation"] or 1), int(found["offset"]))


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One message in quarantine, byte for byte. `timestamp_ms` is Kafka's (milliseconds since 1970)."""

    app: str
    partition: int
    command_offset: int
    generation: int
    timestamp_ms: int
    quarantined_at: datetime
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    status: Status
    resolved_at: datetime | None
    resolution: str | None

    @property
    def id(self) -> QuarantineId:
        """Where it lay."""
        return QuarantineId(self.app, self.partition, self.generation, self.command_offset)


async def list_quarantined(
    connection: asyncpg.Connection,
    *,
    app: str | None = None,
    status: Status | None = "waiting",
    after: QuarantineId | None = None,
    limit: int = LIST_ROWS_MAX,
) -> Sequence[Quarantined]:
    """Messages in quarantine in the order of their ids, behind `after`.

    Args:
        connection: as ledger_reader.
        app: of this app only.
        status: of this status only; None for all.
        after: the last id of the page before.
        limit: at most so many.
    """
    rows = await connection.fetch(
        sql(_PACKAGE, "list_quarantined"), app, status, *(after or ("", -1, -1, -1)), min(limit, LIST_ROWS_MAX)
    )
    return [Quarantined(**row) for row in rows]


async def read_quarantined(connection: asyncpg.Connection, wanted: QuarantineId) -> Quarantined | None:
    """One message, or None when there is none of this id."""
    row = await connection.fetchrow(sql(_PACKAGE, "read_quarantined"), *wanted)
    return None if row is None else Quarantined(**row)


async def resolve_quarantined(
    connection: asyncpg.Connection,
    wanted: QuarantineId,
    status: Literal["retried", "discarded"],
    resolution: str,
    retried_as: UUID | None = None,
) -> bool:
    """Record what was done about a message that waits; False when it does not wait (any more).

    Args:
        connection: as ledger_owner.
        wanted: which message.
        status: what it is from now on.
        resolution: what was done, in words, and by whom.
        retried_as: the command id under which it was published again.
    """
    done = await connection.fetchval(sql(_PACKAGE, "resolve_quarantined"), *wanted, status, resolution, retried_as)
    return done is not None
