"""Before the HTTP service listens: without any API key it must not be reached from other machines."""

import asyncio
import contextlib
from typing import Final

import structlog

from ledger.api_keys.store import any_key_made
from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from producers.doors.doorkeeper import KeysWanted
from producers.doors.loopback import is_loopback

WAIT_STEP_S: Final = 1.0

log = structlog.get_logger(__name__)


async def whose_http(database_url: str, keys: KeysWanted, host: str) -> str:
    """One line for a person: who may use the HTTP service.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    connection = await connect(database_url, role="ledger_reader", application="ledger start")
    try:
        if await any_key_made(connection):
            return "HTTP asks for API keys (`ledger keys list`)"
    finally:
        connection.terminate()
    if keys == "required":
        return "HTTP asks for API keys, and there is none yet: make one with `ledger keys create`"
    reached = "this machine only" if is_loopback(host) else f"whoever reaches {host}: LEDGER_HTTP_KEYS={keys}"
    return f"HTTP is open, to {reached} (`ledger keys create` makes the first API key and closes it)"


async def why_not_open(database_url: str, keys: KeysWanted, host: str, stop: asyncio.Event) -> str | None:
    """Why the service must not listen on this address, None when it may; waits while Postgres is away, and says so."""
    if keys != "auto" or is_loopback(host):
        return None
    said: str | None = None
    while not stop.is_set():
        try:
            connection = await connect(database_url, role="ledger_reader", application="ledger start")
            try:
                return None if await any_key_made(connection) else without_keys(host)
            finally:
                connection.terminate()
        except UNAVAILABLE_ERRORS as error:
            if said != str(error):
                said = str(error)
                log.warning("waiting: Postgres is away, and tells whether there are API keys", error=said)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), WAIT_STEP_S)
    return None


def without_keys(host: str) -> str:
    """What is wrong, and what to do."""
    return (
        f"no API key has been made, so HTTP listens on loopback only, and not on {host} (LEDGER_HTTP_HOST): make one "
        "with `ledger keys create --app APP --scope read --scope write`, or set LEDGER_HTTP_KEYS=required, and "
        "everybody is refused until there is one (docs/operating.md, 'API keys')"
    )
