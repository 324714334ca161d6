"""Logins of a test's own for one of its databases: roles belong to the whole server, so each has a name of its own."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from ledger.event_store.database_url import with_login
from service.logins import create_logins
from service.stack import Addresses

LOGIN_PASSWORD = "a%b/c@d:e"  # every character that a URL would take for its own


@asynccontextmanager
async def logins_of(
    database_url: str, kafka_bootstrap: str = "", password: str = LOGIN_PASSWORD
) -> AsyncIterator[Addresses]:
    """The addresses with a login for each kind of process, made as `ledger roles create` makes them."""
    mark = uuid.uuid4().hex[:12]
    names = {kind: f"test_{kind}_{mark}" for kind in ("writer", "projector", "reader", "app")}
    urls = {f"{kind}_database_url": with_login(database_url, name, password) for kind, name in names.items()}
    addresses = Addresses(kafka_bootstrap, database_url, **urls)
    try:
        await create_logins(addresses)
        yield addresses
    finally:
        await drop_logins(database_url, *names.values())


async def drop_logins(database_url: str, *names: str) -> None:
    """Remove them, and what they own in this database."""
    connection = await asyncpg.connect(database_url)
    try:
        for name in names:
            await connection.execute(
                f"DO $$ BEGIN IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') THEN "
                f"DROP OWNED BY {name}; DROP ROLE {name}; END IF; END $$"
            )
    finally:
        await connection.close()
