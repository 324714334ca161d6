"""Gets locks from holders that do not move any more."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from ledger.sql_files import sql

PATIENCE_S: Final = 1.0
"""How long a claim waits for the locks of an older holder before it ends that holder's connection."""

RESCUES_MAX: Final = 10


@asynccontextmanager
async def ending_blockers(database_url: str, waiting: asyncpg.Connection, application: str) -> AsyncIterator[None]:
    """While the body waits for locks, end the connections that hold them, after PATIENCE_S.

    A holder that was stopped in mid-COPY keeps its locks without end, and no timeout of Postgres fires for it.
    """
    task = asyncio.create_task(_end_blockers(database_url, waiting.get_server_pid(), application))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, *UNAVAILABLE_ERRORS, asyncpg.PostgresError):
            await task


async def _end_blockers(database_url: str, waiting_pid: int, application: str) -> None:
    for _ in range(RESCUES_MAX):
        await asyncio.sleep(PATIENCE_S)
        # As the user who logged in: only the same user may end a connection.
        rescuer = await connect(database_url, role=None, application=f"{application} (rescue)")
        try:
            await rescuer.execute(sql("ledger.event_store", "terminate_blockers"), waiting_pid)
        finally:
            rescuer.terminate()
