"""Real Kafka and real Postgres for a test session, from the same resolver that `make run` uses."""

import asyncio
import shutil
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from ledger.event_store.connections import connect
from ledger.event_store.identity import initialise
from ledger.event_store.migrate import upgrade
from ledger.settings import Settings
from service.stack import Addresses, resolve

TEST_PARTITIONS = 12
"""Partitions of the ledgers that tests set up: the default of Settings.partitions."""


@contextmanager
def running_servers() -> Iterator[Addresses]:
    """Servers that nothing was written to, until the end of the block; `LEDGER_STACK` chooses where from.

    What `LEDGER_KAFKA_BOOTSTRAP_SERVERS` and `LEDGER_DATABASE_URL` name is used as it is: tests make topics
    and databases of their own.
    """
    settings = Settings()
    database = settings.database(settings.database_url)
    with server_home() as home:
        resolution = resolve(settings.stack, settings.kafka_bootstrap_servers, database, home, purpose="test")
        say(f"stack: {resolution.stack.name} ({resolution.why})")
        addresses = asyncio.run(resolution.stack.start(say))
        try:
            yield addresses
        finally:
            asyncio.run(resolution.stack.stop(say))


@contextmanager
def server_home() -> Iterator[Path]:
    """A folder for servers' files, deleted at the end. pytest's own folders are closed to the account under
    which Postgres runs when we are root."""
    home = Path(tempfile.mkdtemp(prefix="ledger-test-"))
    home.chmod(0o755)
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


@asynccontextmanager
async def fresh_database(server_url: str, template: str | None = None) -> AsyncIterator[str]:
    """URL of a new database on the server, dropped at the end whoever is still connected.

    Args:
        server_url: Of a role that may create databases.
        template: A database to copy, to which nobody is connected; empty if None.
    """
    name = f"test_{uuid.uuid4().hex}"
    copied = f' TEMPLATE "{template}"' if template else ""
    await _execute(server_url, f'CREATE DATABASE "{name}"{copied}')
    try:
        yield with_database(server_url, name)
    finally:
        await _execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextmanager
def ledger_template(server_url: str) -> Iterator[str]:
    """Name of a database that holds a new ledger of TEST_PARTITIONS partitions, to be copied; dropped at the end."""
    name = f"template_{uuid.uuid4().hex}"
    asyncio.run(_execute(server_url, f'CREATE DATABASE "{name}"'))
    try:
        upgrade(with_database(server_url, name))
        asyncio.run(_initialise(with_database(server_url, name)))
        yield name
    finally:
        asyncio.run(_execute(server_url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


def with_database(url: str, name: str) -> str:
    """The same server and role, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _initialise(database_url: str) -> None:
    connection = await connect(database_url, role="ledger_owner", application="tests")
    try:
        await initialise(connection, TEST_PARTITIONS)
    finally:
        await connection.close()


async def _execute(server_url: str, statement: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def say(line: str) -> None:
    """To the terminal, past pytest's capture: whoever waits for the servers wants to see for what."""
    print(line, file=sys.__stderr__, flush=True)
