"""Rows of a large table in order, a batch at a time, through a server-side cursor."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

ROWS_PER_FETCH: Final = 2_000
FETCH_TIMEOUT_S: Final = 3_600.0
"""The first fetch of a sorted stream waits for the sort of the whole table."""


class RowStream:
    """The rows of one statement, with a look at the next one. Lives within the connection's transaction."""

    def __init__(
        self, connection: asyncpg.Connection, statement: str, *arguments: object, rows_per_fetch: int = ROWS_PER_FETCH
    ) -> None:
        self._connection = connection
        self._statement = statement
        self._arguments = arguments
        self._rows_per_fetch = rows_per_fetch
        self._cursor: Any = None
        self._rows: Sequence[asyncpg.Record] = ()
        self._index = 0

    async def batch(self) -> Sequence[asyncpg.Record]:
        """The rows from the next one on that are here already, or the next fetch; empty at the end. Takes them."""
        if self._index == len(self._rows):
            await self._fetch()
        taken = self._rows[self._index :]
        self._index = len(self._rows)
        return taken

    async def peek(self) -> asyncpg.Record | None:
        """The next row, which stays the next one; None at the end."""
        if self._index == len(self._rows):
            await self._fetch()
        return self._rows[self._index] if self._rows else None

    def take(self) -> None:
        """Go past the row that `peek` showed."""
        self._index += 1

    async def _fetch(self) -> None:
        if self._cursor is None:
            self._cursor = await self._connection.cursor(self._statement, *self._arguments, timeout=FETCH_TIMEOUT_S)
        self._rows = await self._cursor.fetch(self._rows_per_fetch, timeout=FETCH_TIMEOUT_S)
        self._index = 0
