"""The keys as the database has them."""

from collections.abc import Collection
from typing import Final

import asyncpg

from ledger.api_keys.store import DoorKeys, note_keys_used, read_door_keys
from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from producers.doors.key_ring import KeysUnavailableError

_READER: Final = "ledger_reader"
_REFUSALS: Final = (asyncpg.PostgresError, *UNAVAILABLE_ERRORS)


class PostgresDoorKeys:
    """`KeySource` on one connection that acts as `ledger_reader`; opened when needed, and again when it broke."""

    def __init__(self, database_url: str) -> None:
        """No I/O."""
        self._database_url = database_url
        self._connection: asyncpg.Connection | None = None

    async def read(self) -> DoorKeys:
        """See KeySource."""
        connection = await self._open()
        try:
            return await read_door_keys(connection)
        except BaseException as error:  # also when it was cancelled: the connection may be in the middle of an answer
            self._drop()
            if isinstance(error, _REFUSALS):
                raise KeysUnavailableError(_words(error)) from error
            raise

    async def note_used(self, key_ids: Collection[str]) -> None:
        """See KeySource."""
        connection = await self._open()
        try:
            await note_keys_used(connection, key_ids)
        except BaseException as error:  # as above
            self._drop()
            if isinstance(error, _REFUSALS):
                raise KeysUnavailableError(_words(error)) from error
            raise

    async def close(self) -> None:
        """See KeySource."""
        self._drop()

    async def _open(self) -> asyncpg.Connection:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        try:
            self._connection = await connect(self._database_url, role=_READER, application="ledger api keys")
        except _REFUSALS as error:
            raise KeysUnavailableError(_words(error)) from error
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


def _words(error: BaseException) -> str:
    return f"Postgres: {type(error).__name__}: {error}"
