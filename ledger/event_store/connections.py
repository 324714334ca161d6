"""Connections of the ledger's own processes to Postgres: roles, keepalives, and which errors mean that it is away."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ledger.event_store.tls_refusals import tls_refusal

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0
PLAN_ONCE: Final = {"plan_cache_mode": "force_generic_plan"}
"""For connections that run few statements very often: planning the append again costs as much as executing it."""

UNAVAILABLE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when a connection breaks in the middle of a COPY
    asyncpg.OperatorInterventionError,  # shut down, crashed, not yet accepting, terminated by an administrator
    asyncpg.InsufficientResourcesError,  # a full disk, too many connections
    asyncpg.DeadlockDetectedError,
    asyncpg.ObjectInUseError,
    asyncpg.InvalidAuthorizationSpecificationError,  # a password that was changed here or there, and soon will be both
    asyncpg.ReadOnlySQLTransactionError,  # a standby that is not promoted yet, or a primary that was demoted
)
"""Errors after which trying again later, on a new connection, can help."""

# A server that does not notice that a client's host has vanished would keep its locks for hours.
_KEEPALIVES: Final = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


async def connect(
    database_url: str, *, role: str | None, application: str, settings: Mapping[str, str] | None = None
) -> asyncpg.Connection:
    """Open a connection that acts as one of the ledger's roles (source: docs/operating.md), with settings of Postgres.

    The URL may name several servers (`host:port,host:port`): the first that is no standby is the ledger's.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    server_settings: dict[str, str] = {"application_name": application, **_KEEPALIVES}
    if role is not None:
        server_settings["role"] = role
    server_settings |= settings or {}
    return await open_connection(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings=server_settings,
    )


async def open_connection(dsn: str | None = None, **options: Any) -> asyncpg.Connection:
    """`asyncpg.connect` to the first server of the URL that is no standby; `timeout` is each server's own.

    asyncpg has one limit for all servers together, which a vanished host (one that does not even refuse) would use up
    before the next was asked. A standby is never right, for reading neither: it may show less than was answered.

    Raises:
        OSError, asyncpg.PostgresError, asyncpg.InterfaceError: what the last server had against it.
    """
    servers = one_by_one(dsn or "")  # optional for the sake of asyncpg's pools, which always name it
    for url in servers[:-1]:
        with contextlib.suppress(*UNAVAILABLE_ERRORS):
            return await _open_one(url, options)
    return await _open_one(servers[-1], options)


async def _open_one(url: str, options: dict[str, Any]) -> asyncpg.Connection:
    try:
        connection: asyncpg.Connection = await asyncpg.connect(url, **options | {"target_session_attrs": "primary"})
    except OSError as error:
        refusal = tls_refusal(url, error)
        if refusal is None:
            raise
        raise refusal from error
    return connection


def one_by_one(database_url: str) -> list[str]:
    """`//host:port,host:port/database` as one URL for each server. `target_session_attrs` in it is ours to say."""
    parts = urlsplit(database_url)
    login, at, servers = parts.netloc.rpartition("@")
    query = "&".join(one for one in parts.query.split("&") if not one.startswith("target_session_attrs="))
    return [urlunsplit(parts._replace(netloc=f"{login}{at}{server}", query=query)) for server in servers.split(",")]
