"""How Alembic reaches the database: the address comes from the caller, or from LEDGER_DATABASE_URL (an argument would
show its password in the list of processes)."""

import asyncio
import os
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

from alembic import context
from ledger.event_store.connections import open_connection


def _url() -> str:
    url = context.config.attributes.get("database_url") or os.environ.get("LEDGER_DATABASE_URL")
    if not url:
        raise SystemExit("no database: run `ledger migrate`, or set LEDGER_DATABASE_URL for alembic")
    return str(url)


def _run(connection: Connection) -> None:
    # Processes that start together all migrate; the lock lasts as long as the connection.
    connection.exec_driver_sql((Path(__file__).parent / "sql" / "one_at_a_time.sql").read_text())
    connection.commit()
    context.configure(connection=connection, version_table="ledger_alembic_version", transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def _main() -> None:
    url = _url()
    # The URL goes to asyncpg as it is: SQLAlchemy's own reading of it knows one
    # server only, and nothing of TLS.
    connect = partial(open_connection, url)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=pool.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
        await connection.commit()
    await engine.dispose()


asyncio.run(_main())
