"""Making a database the record of a ledger, and waiting until it is one."""

import asyncio
import contextlib
from typing import Final

import structlog

from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from ledger.event_store.database_url import unprotected_host
from ledger.event_store.identity import initialise, read_identity
from ledger.event_store.protocol import Identity
from projections.registry import READ_MODELS
from projections.versions import install
from service.stack import Addresses, Login

WAIT_STEP_S: Final = 1.0

log = structlog.get_logger(__name__)


async def prepare_database(database_url: str, partitions: int) -> Identity:
    """Migrate up, initialise, make the first version of each read model; does nothing where all that was done before.

    Raises:
        RebuildError: somebody else is making a read model.
        RecordMismatchError: the ledger has another number of partitions.
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    # Alembic takes most of a second to import, which every other command would pay for.
    from ledger.event_store.migrate import upgrade  # noqa: PLC0415

    await asyncio.to_thread(upgrade, database_url)
    connection = await connect(database_url, role="ledger_owner", application="ledger migrate")
    try:
        identity = await initialise(connection, partitions)
    finally:
        connection.terminate()
    await install(database_url, READ_MODELS)
    return identity


def warn_of_open_doors(addresses: Addresses, login: Login) -> None:
    """Say, once, at the start of a process, where it may do more than it needs or is overheard doing it."""
    if getattr(addresses, f"{login}_database_url") is None:
        log.warning(
            f"this process connects to Postgres as the owner of everything: set LEDGER_{login.upper()}_DATABASE_URL "
            "(docs/operating.md, Database roles and TLS)"
        )
    host = unprotected_host(addresses.database(login))
    if host is not None:
        log.warning(
            "the connection to Postgres can be read and changed on its way: set LEDGER_DATABASE_TLS=verify-full",
            host=host,
            login=login,
        )


async def await_identity(database_url: str, stop: asyncio.Event) -> Identity | None:
    """Which ledger the database records; waits as long as Postgres is away, and says so. None when told to stop.

    Raises:
        RecordMismatchError: no ledger has been set up there.
    """
    said: str | None = None
    while not stop.is_set():
        try:
            connection = await connect(database_url, role=None, application="ledger start")
            try:
                return await read_identity(connection)
            finally:
                connection.terminate()
        except UNAVAILABLE_ERRORS as error:
            if said != str(error):
                said = str(error)
                log.warning("waiting: Postgres is away", error=said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WAIT_STEP_S)
    return None
