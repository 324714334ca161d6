"""The content store in Postgres: two small tables in a schema of the app's own."""

import asyncio
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from apps.example_app.content import NOTICES_LISTED_MAX, Content, ContentStoreAwayError, LowBalanceNotice
from ledger.domain.position import Position
from ledger.sql_files import sql

CONNECTIONS_MAX: Final = 4
CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 5.0
"""Of one statement, and of waiting for a free connection."""

_PACKAGE: Final = "apps.example_app"
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


class PostgresContentStore:
    """`ContentStore` in the schema `example_app`, which it makes when it is first needed."""

    def __init__(self, database_url: str) -> None:
        """No I/O. `database_url` is of a login that owns the schema, or may make it."""
        self._database_url = database_url
        self._pool: asyncpg.Pool | None = None
        self._schema_exists = False
        self._schema_turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Make the pool; connects to nothing yet, so that the app can start while Postgres is away."""
        self._pool = await asyncpg.create_pool(
            self._database_url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=STATEMENT_TIMEOUT_S,
            server_settings={"application_name": "example app"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections at once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def keep_draft(self, content_id: str, owner_id: str, title: str, body: str) -> None:
        """See ContentStore."""
        await self._rows("keep_draft", content_id, owner_id, title, body)

    async def make_visible(self, content_id: str, owner_id: str, position: Position) -> None:
        """See ContentStore."""
        await self._rows("make_visible", content_id, owner_id, str(position))

    async def discard_draft(self, content_id: str, owner_id: str) -> None:
        """See ContentStore."""
        await self._rows("discard_draft", content_id, owner_id)

    async def find_visible(self, content_id: str) -> Content | None:
        """See ContentStore."""
        rows = await self._rows("find_visible", content_id)
        return Content(**rows[0]) if rows else None

    async def add_notice(self, notice: LowBalanceNotice) -> None:
        """See ContentStore."""
        await self._rows("add_notice", notice.owner_id, *notice.position, notice.balance, notice.occurred_at)

    async def list_notices(self, owner_id: str) -> list[LowBalanceNotice]:
        """See ContentStore."""
        rows = await self._rows("list_notices", owner_id, NOTICES_LISTED_MAX)
        return [
            LowBalanceNotice(
                row["owner_id"], Position(row["partition"], row["sequence"]), row["balance"], row["occurred_at"]
            )
            for row in rows
        ]

    async def _rows(self, statement: str, *arguments: object) -> list[Any]:
        if self._pool is None:
            raise ContentStoreAwayError("the content store is not open: use it inside `async with`")
        try:
            async with self._pool.acquire(timeout=STATEMENT_TIMEOUT_S) as connection:
                await self._ensure_schema(connection)
                rows: list[Any] = await connection.fetch(sql(_PACKAGE, statement), *arguments)
                return rows
        except _AWAY as error:
            raise ContentStoreAwayError(f"Postgres: {type(error).__name__}: {error}") from error

    async def _ensure_schema(self, connection: Any) -> None:
        async with self._schema_turn:
            if self._schema_exists:
                return
            for statement in ("create_schema", "create_content", "create_notice"):
                try:
                    await connection.execute(sql(_PACKAGE, statement))
                except (asyncpg.UniqueViolationError, asyncpg.DuplicateTableError, asyncpg.DuplicateSchemaError):
                    continue  # IF NOT EXISTS looks first: another process made it in between
            self._schema_exists = True
