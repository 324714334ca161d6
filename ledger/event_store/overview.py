"""What people look at: the heads of the partitions, how far the topics are consumed, what lies in quarantine."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from ledger.event_store.identity import read_identity
from ledger.event_store.protocol import Identity
from ledger.sql_files import sql

_PACKAGE = "ledger.event_store"


@dataclass(frozen=True, slots=True)
class PartitionOverview:
    """One partition as the record has it."""

    partition: int
    sequence: int
    published_sequence: int
    epoch: int
    holder: str | None
    """Who claimed it last and has not given it up; it may have died since."""
    claimed_at: datetime | None
    occurred_at: datetime | None
    """When its last event was recorded."""
    consumed: int
    trying: str | None
    """The record (`app:offset`) at which holders died, while it is tried alone."""
    trying_claims: int
    halted_because: str | None
    """Why it stands still until an operator acts; None: it does not."""
    halted_record: str | None
    """The record (`app:partition:offset`) at which it stands, where one is to blame."""
    halted_apps: Mapping[str, str]
    """By app: why nothing of that app is consumed here, while others go on."""


@dataclass(frozen=True, slots=True)
class QuarantineCount:
    """How many messages of an app lie in quarantine for one reason."""

    app: str
    reason: str
    status: str
    count: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The record at one moment."""

    identity: Identity
    clock: datetime
    partitions: tuple[PartitionOverview, ...]
    next_offsets: Mapping[tuple[str, int], int]
    """By app and partition."""
    quarantine: tuple[QuarantineCount, ...]


async def read_overview(connection: asyncpg.Connection) -> Overview:
    """Look at the record, in one snapshot.

    Raises:
        RecordMismatchError: no ledger has been set up in this database.
    """
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        identity = await read_identity(connection)
        heads = await connection.fetch(sql(_PACKAGE, "overview_heads"))
        marks = await connection.fetch(sql(_PACKAGE, "overview_marks"))
        quarantine = await connection.fetch(sql(_PACKAGE, "overview_quarantine"))
        clock = await connection.fetchval(sql(_PACKAGE, "overview_clock"))
    return Overview(
        identity,
        clock,
        tuple(PartitionOverview(**{**row, "halted_apps": json.loads(row["halted_apps"] or "{}")}) for row in heads),
        {(row["app"], row["partition"]): row["next_offset"] for row in marks},
        tuple(QuarantineCount(**row) for row in quarantine),
    )
