"""The keys of the record and its events belong together one to one: checked by walking both in the same order."""

from typing import Any
from uuid import UUID

import asyncpg

from ledger.event_store.keys import CommandKey, command_key, nonce_key
from ledger.event_store.verification_checks import Check, Violation
from ledger.event_store.verification_streams import RowStream
from ledger.sql_files import sql

_PACKAGE = "ledger.event_store"


class KeyAuditor:
    """Sees every event of all partitions in the order (partition, sequence), beside the two tables of keys."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._commands = RowStream(connection, sql(_PACKAGE, "verify_command_keys"))
        self._nonces = RowStream(connection, sql(_PACKAGE, "verify_nonce_keys"))

    async def see(self, row: Any) -> None:
        """Check the keys of the next event. Raises Violation."""
        position = (row["partition"], row["sequence"])
        app, owner_id = row["app"], row["owner_id"]
        key = command_key(app, owner_id, row["command_id"])
        found = await self._at(self._commands, position, "command_key")
        if found is None or (found["command_id"], found["scope"]) != key:
            raise await self._command_violation(position, key, found)
        self._commands.take()
        if row["reason"] is not None:
            return
        digest = nonce_key(app, owner_id, row["nonce"])
        found = await self._at(self._nonces, position, "nonce_key")
        if found is None or found["key"] != digest:
            raise await self._nonce_violation(position, row, digest, found)
        self._nonces.take()

    async def finish(self) -> None:
        """After the last event no key may be left. Raises Violation."""
        for stream, table in ((self._commands, "command_key"), (self._nonces, "nonce_key")):
            left = await stream.peek()
            if left is not None:
                raise _keyless(table, left)

    async def _at(self, stream: RowStream, position: tuple[int, int], table: str) -> Any:
        found = await stream.peek()
        if found is None:
            return None
        place = (found["partition"], found["sequence"])
        if place < position:
            raise _keyless(table, found)
        return found if place == position else None

    async def _command_violation(self, position: tuple[int, int], key: CommandKey, found: Any) -> Violation:
        where = f"{position[0]}:{position[1]}"
        if found is not None:
            return Violation(Check.KEYS, where, f"its command key is that of another command ({found['command_id']})")
        rows = await self._connection.fetch(sql(_PACKAGE, "look_up_commands"), [key.command_id], [key.scope])
        return _unkeyed(where, f"command id {key.command_id}", rows)

    async def _nonce_violation(self, position: tuple[int, int], row: Any, digest: UUID, found: Any) -> Violation:
        where = f"{position[0]}:{position[1]}"
        if found is not None:
            return Violation(Check.KEYS, where, f"its nonce key is not that of its nonce {row['nonce']!r}")
        rows = await self._connection.fetch(sql(_PACKAGE, "look_up_nonces"), [digest])
        return _unkeyed(where, f"nonce {row['nonce']!r} of {row['owner_id']!r} in {row['app']}", rows)


def _unkeyed(where: str, what: str, rows: list[asyncpg.Record]) -> Violation:
    if rows:
        other = f"{rows[0]['partition']}:{rows[0]['sequence']}"
        return Violation(Check.KEYS, where, f"the {what} was used before, at {other}")
    return Violation(Check.KEYS, where, f"the {what} has no key: it could be used again")


def _keyless(table: str, row: Any) -> Violation:
    return Violation(Check.KEYS, f"{row['partition']}:{row['sequence']}", f"a row of {table} belongs to no event there")
