"""The example app's service on real servers, listening on a port of its own, with a whole ledger behind it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
from fastapi import FastAPI

from apps.example_app.application import create_app
from apps.example_app.operations import ExampleAppOperations
from ledger.api_keys.secret import new_key
from ledger.api_keys.store import Scope, create_api_key, revoke_api_key
from ledger.operations import BaseLedgerOperations
from producers.doors import DoorPolicy
from projections.registry import READ_MODELS
from projections.versions import install
from service.processes.http import HttpServer, http_config
from tests.ledger_on_servers import WAIT_S, LedgerOnServers, ledger_on_servers
from tests.projections_on_servers import projecting
from tests.servers import fresh_database


@dataclass(frozen=True, slots=True)
class HttpOnServers:
    """Where it listens, and what is behind it."""

    url: str
    port: int
    ledger: LedgerOnServers

    async def make_key(self, app: str, *scopes: Scope) -> str:
        """A new key of an app, for reading and writing if nothing is said."""
        return await make_key(self.ledger.pool, app, *scopes)


async def make_key(pool: asyncpg.Pool, app: str, *scopes: Scope) -> str:
    """As `ledger keys create` does it."""
    key = new_key()
    async with pool.acquire() as connection:
        await create_api_key(
            connection, key, app=app, scopes=scopes or list(Scope), label="test", created_by="test", expires_at=None
        )
    return key


async def revoke_key(pool: asyncpg.Pool, key: str) -> None:
    """As `ledger keys revoke` does it."""
    async with pool.acquire() as connection:
        assert await revoke_api_key(connection, key[4:14], revoked_by="test") is not None


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[int]:
    """Serve the app on a free port of loopback, as `ledger run http` does."""
    server = HttpServer(http_config(app, "127.0.0.1", 0))
    serving = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(WAIT_S):
            while not server.started:
                assert not serving.done(), "it did not start"
                await asyncio.sleep(0.01)
        socket: Any = server.servers[0].sockets[0]
        yield socket.getsockname()[1]
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def http_on_servers(
    kafka_bootstrap: str,
    postgres_server_url: str,
    doors: DoorPolicy,
    classes: Sequence[type[BaseLedgerOperations]] = (ExampleAppOperations,),
    under_way_max: int = 1_000,
) -> AsyncIterator[HttpOnServers]:
    """Everything, on a fresh database and fresh topics."""
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url, classes=classes) as ledger,
    ):
        await install(database_url, READ_MODELS)
        service = create_app(
            app="example-app",
            rules={app: rules.operations for app, rules in ledger.registry.items()},
            kafka_bootstrap_servers=kafka_bootstrap,
            reader_database_url=database_url,
            app_database_url=database_url,
            topic_prefix=ledger.topics.prefix,
            outcome_wait_s=5.0,
            read_wait_s=5.0,
            doors=doors,
            under_way_max=under_way_max,
        )
        async with ledger.running(), projecting(ledger), listening(service) as port:
            yield HttpOnServers(f"http://127.0.0.1:{port}", port, ledger)
