"""The record under test: in memory and in Postgres, behind one face."""

from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import uuid4

import asyncpg

from ledger.event_store.postgres import PostgresEventStore
from ledger.event_store.protocol import EventStore, QuarantinedRecord
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.servers import TEST_PARTITIONS

ALWAYS_AT_ONCE: Final = 1_000_000
ALWAYS_BY_COPY: Final = -1
"""Events of the largest batch that is written in one statement."""


class Record(Protocol):
    """A record of TEST_PARTITIONS partitions, and what a test wants to see in it past the protocol."""

    def client(self) -> EventStore:
        """A connection of one more process."""

    async def head(self, partition: int) -> dict[str, Any]:
        """Columns of the partition's head."""

    async def quarantine(self) -> list[QuarantinedRecord]:
        """All of it, by offset."""

    async def counts(self) -> dict[str, int]:
        """How many rows each table has that only an append fills."""


COUNTED = ("event", "command_key", "nonce_key", "account", "command_offset", "quarantine")


class RecordInMemory:
    """See Record."""

    def __init__(self) -> None:
        self.record = InMemoryRecord.initialised(uuid4(), TEST_PARTITIONS, lambda: datetime.now(UTC))

    def client(self) -> EventStore:
        return InMemoryEventStore(self.record)

    async def head(self, partition: int) -> dict[str, Any]:
        head = self.record.heads[partition]
        return {name: getattr(head, name) for name in head.__slots__}

    async def quarantine(self) -> list[QuarantinedRecord]:
        return [row for _, row in sorted(self.record.quarantine.items())]

    async def counts(self) -> dict[str, int]:
        record = self.record
        numbers = (
            sum(len(rows) for rows in record.events.values()),
            len(record.command_keys),
            len(record.nonce_keys),
            len(record.accounts),
            len(record.offsets),
            len(record.quarantine),
        )
        return dict(zip(COUNTED, numbers, strict=True))


class RecordInPostgres:
    """See Record."""

    def __init__(self, url: str, connection: asyncpg.Connection, in_one_statement_max: int) -> None:
        self.url = url
        self.in_one_statement_max = in_one_statement_max
        self.connection = connection
        self.stores: list[PostgresEventStore] = []

    def client(self) -> PostgresEventStore:
        name = f"test client {len(self.stores)}"
        self.stores.append(PostgresEventStore(self.url, name, self.in_one_statement_max))
        return self.stores[-1]

    async def head(self, partition: int) -> dict[str, Any]:
        row = await self.connection.fetchrow("SELECT * FROM ledger.partition_head WHERE partition = $1", partition)
        assert row is not None
        return dict(row)

    async def quarantine(self) -> list[QuarantinedRecord]:
        rows = await self.connection.fetch("SELECT * FROM ledger.quarantine ORDER BY app, partition, command_offset")
        assert all(row["status"] == "waiting" for row in rows)
        return [QuarantinedRecord(*(row[name] for name in QuarantinedRecord._fields)) for row in rows]

    async def counts(self) -> dict[str, int]:
        return {table: await self.connection.fetchval(f"SELECT count(*) FROM ledger.{table}") for table in COUNTED}
