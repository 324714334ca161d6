"""Connections of the ledger's own processes to Postgres: roles, keepalives, and which errors mean that it is away."""

from typing import Final

import asyncpg

CONNECT_TIMEOUT_S: Final = 5.0
STATEMENT_TIMEOUT_S: Final = 30.0

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
)
"""Errors after which trying again later, on a new connection, can help."""

# A server that does not notice that a client's host has vanished would keep its locks for hours.
_KEEPALIVES: Final = {
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}


async def connect(database_url: str, *, role: str | None, application: str) -> asyncpg.Connection:
    """Open a connection that acts as one of the ledger's roles (source: docs/operating.md).

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    server_settings: dict[str, str] = {"application_name": application, **_KEEPALIVES}
    if role is not None:
        server_settings["role"] = role
    connection: asyncpg.Connection = await asyncpg.connect(
        database_url,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=STATEMENT_TIMEOUT_S,
        server_settings=server_settings,
    )
    return connection
