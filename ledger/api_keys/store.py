"""The table of API keys: made, listed and revoked by an operator, read by the HTTP service.

A key's row is never deleted by the ledger: once a key has been made the HTTP service asks for one for ever, so revoking
the last one closes the doors and does not open them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from ledger.api_keys.secret import read_key
from ledger.sql_files import sql

KEYS_MAX: Final = 10_000
"""Keys that are neither revoked nor expired: the HTTP service holds them all in memory."""

LABEL_CHARACTERS_MAX: Final = 200

_PACKAGE: Final = "ledger.api_keys"

Connection: TypeAlias = "asyncpg.Connection | PoolConnectionProxy"


class Scope(StrEnum):
    """What a key opens."""

    READ = "read"
    """Balances, entries, statements, and what became of the app's own commands."""

    WRITE = "write"
    """Publishing commands as the key's app."""


class TooManyKeysError(Exception):
    """There is no room for another key; the text says what to do."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as an operator sees it; the key itself is known to its holder alone."""

    id: str
    app: str
    scopes: tuple[Scope, ...]
    label: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None
    usable: bool


@dataclass(frozen=True, slots=True)
class DoorKey:
    """A usable key as the HTTP service needs it."""

    id: str
    app: str
    scopes: frozenset[Scope]
    digest: bytes
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class DoorKeys:
    """All usable keys, and whether there has ever been any."""

    any_made: bool
    usable: Sequence[DoorKey]


async def create_api_key(
    connection: Connection,
    key: str,
    *,
    app: str,
    scopes: Collection[Scope],
    label: str,
    created_by: str,
    expires_at: datetime | None,
) -> ApiKey:
    """Keep a new key, of which only its digest is written down.

    Raises:
        TooManyKeysError: there are `KEYS_MAX` already.
    """
    presented = read_key(key)
    assert presented is not None, "keys are made by new_key"
    row = await connection.fetchrow(
        sql(_PACKAGE, "create_key"),
        presented.id,
        app,
        sorted(scopes),
        presented.digest,
        label,
        created_by,
        expires_at,
        KEYS_MAX,
    )
    if row is None:
        raise TooManyKeysError(f"there are {KEYS_MAX:,} usable keys already: revoke some that nobody uses")
    return _api_key(row)


async def list_api_keys(connection: Connection, *, app: str | None = None) -> list[ApiKey]:
    """Every key that was made, the newest first, of one app or of all."""
    return [_api_key(row) for row in await connection.fetch(sql(_PACKAGE, "list_keys"), app)]


async def revoke_api_key(connection: Connection, key_id: str, *, revoked_by: str) -> ApiKey | None:
    """Make a key useless for ever; a second time changes nothing. None when there is no such key."""
    row = await connection.fetchrow(sql(_PACKAGE, "revoke_key"), key_id, revoked_by)
    return None if row is None else _api_key(row)


async def any_key_made(connection: Connection) -> bool:
    """Whether there has ever been a key, so that the HTTP service asks for one."""
    return bool(await connection.fetchval(sql(_PACKAGE, "any_key_made")))


async def read_door_keys(connection: Connection) -> DoorKeys:
    """What the HTTP service goes by."""
    rows = await connection.fetch(sql(_PACKAGE, "read_usable_keys"), KEYS_MAX)
    return DoorKeys(
        rows[0]["any_made"],
        [
            DoorKey(row["id"], row["app"], _scopes(row["scopes"]), bytes(row["digest"]), row["expires_at"])
            for row in rows
            if row["id"] is not None
        ],
    )


async def note_keys_used(connection: Connection, key_ids: Collection[str]) -> None:
    """These keys were used about now."""
    await connection.fetchval(sql(_PACKAGE, "note_keys_used"), sorted(key_ids))


def _scopes(names: Collection[str]) -> frozenset[Scope]:
    # A scope of a newer version opens nothing here.
    return frozenset(Scope(name) for name in names if name in Scope._value2member_map_)


def _api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(
        id=row["id"],
        app=row["app"],
        scopes=tuple(sorted(_scopes(row["scopes"]))),
        label=row["label"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
        usable=row["usable"],
    )
