"""Queries of the read models: a pool of connections that may only read, and reads that follow the active version."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from ledger.event_store.connections import CONNECT_TIMEOUT_S, PLAN_ONCE, UNAVAILABLE_ERRORS, open_connection
from ledger.event_store.identity import SameLedger
from ledger.event_store.protocol import RecordMismatchError, StoreUnavailableError
from ledger.messages.partitioning import partition_of
from ledger.sql_files import sql
from projections.read_model import ReadModel

POOL_CONNECTIONS_MAX: Final = 10
READ_TIMEOUT_S: Final = 5.0
"""Of one query, and of waiting for a free connection."""

READ_ATTEMPTS_MAX: Final = 3
"""A read is tried again on another connection when one broke, or when a rebuild swapped the version it named."""


class ReadPool:
    """Connections that act as `ledger_reader`; opened when needed, so that a service starts while Postgres is away."""

    def __init__(self, database_url: str, application: str = "ledger queries") -> None:
        self._pool: asyncpg.Pool = asyncpg.create_pool(
            database_url,
            min_size=0,
            max_size=POOL_CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=READ_TIMEOUT_S,
            server_settings={
                "role": "ledger_reader",
                "application_name": application,
                "default_transaction_read_only": "on",
                **PLAN_ONCE,
            },
            connect=open_connection,
            init=SameLedger().require,
            reset=_nothing_to_reset,
        )
        self._versions: dict[str, int] = {}
        self._partitions: int | None = None

    async def start(self) -> None:
        """Prepare the pool; connects to nothing."""
        await self._pool

    async def stop(self) -> None:
        """Close all connections."""
        self._pool.terminate()

    async def partition(self, owner_id: str) -> int:
        """The partition on which an owner lies. Raises StoreUnavailableError, RecordMismatchError."""
        if self._partitions is None:
            rows = await self.fetch(sql("ledger.event_store", "read_identity"))
            if not rows:
                raise RecordMismatchError("no ledger has been set up in this database; run `ledger migrate`")
            self._partitions = int(rows[0]["partitions"])
        return partition_of(owner_id.encode(), self._partitions)

    async def fetch(self, statement: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """The rows of a statement. Raises StoreUnavailableError."""
        for attempt in range(1, READ_ATTEMPTS_MAX + 1):
            try:
                async with self._pool.acquire(timeout=READ_TIMEOUT_S) as connection:
                    rows: Sequence[asyncpg.Record] = await connection.fetch(statement, *arguments)
                    return rows
            except (TimeoutError, asyncpg.QueryCanceledError) as error:
                raise _away(error) from error  # it has waited long enough already
            except UNAVAILABLE_ERRORS as error:
                if attempt == READ_ATTEMPTS_MAX:
                    raise _away(error) from error
        raise AssertionError("unreachable")

    async def fetch_active(self, model: ReadModel, name: str, *arguments: object) -> Sequence[asyncpg.Record]:
        """The rows of a statement of a read model, in its active version.

        The statement answers no row at all when the version that it names is not the active one; then it is asked
        again with the one that is.

        Raises:
            StoreUnavailableError: Postgres is away.
            RecordMismatchError: the read model is not installed.
        """
        for _ in range(READ_ATTEMPTS_MAX):
            version = self._versions.get(model.name)
            if version is None:
                version = self._versions[model.name] = await self._active_version(model.name)
            try:
                rows = await self.fetch(model.sql(name, version), *arguments)
            except asyncpg.UndefinedTableError:
                rows = []  # a rebuild has dropped this version
            if rows:
                return rows
            self._versions.pop(model.name, None)
        raise StoreUnavailableError(f"the active version of {model.name} changed {READ_ATTEMPTS_MAX} times meanwhile")

    async def _active_version(self, name: str) -> int:
        rows: Sequence[Any] = await self.fetch(sql("projections", "read_active_versions"))
        for row in rows:
            if row["name"] == name:
                return int(row["active_version"])
        raise RecordMismatchError(f"read model {name} is not installed in this database; run `ledger migrate`")


async def _nothing_to_reset(_connection: asyncpg.Connection) -> None:
    """A query leaves no trace in its session, and asyncpg's own reset is a second trip to the server for each query."""


def _away(error: Exception) -> StoreUnavailableError:
    return StoreUnavailableError(f"Postgres: {type(error).__name__}: {error}")
