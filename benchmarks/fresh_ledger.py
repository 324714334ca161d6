"""A new, empty ledger on the benchmark's servers, and its processes: the ones that `make run` starts."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.commands import APP, OPERATIONS
from benchmarks.ledger_process import LedgerProcess, MeasurementError, start_process
from benchmarks.servers import Servers
from benchmarks.sizes import PARTITIONS
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.topics_sync import sync_topics, wanted_topics
from ledger.domain.chain import GENESIS
from ledger.messages.topics import Topics
from ledger.sql_files import sql
from service.database import prepare_database

START_LIMIT_S: Final = 60.0
LONG_STATEMENT_LIMIT_S: Final = 600.0
POLL_S: Final = 0.01

_PACKAGE: Final = "benchmarks"
_HOLDS_ALL: Final = {"consumer": "consumer_holds_all", "projector": "projector_holds_all"}


class FreshLedger:
    """Topics under a prefix of their own and a database of its own."""

    def __init__(self, servers: Servers, database_url: str, connection: asyncpg.Connection, prefix: str) -> None:
        self.servers = servers
        self.kafka = servers.kafka
        self.topics = Topics(prefix)
        self.database_url = database_url
        self.start_s: dict[str, float] = {}
        """By process: from its start until it held all partitions, the last time it was started."""
        self._connection = connection

    async def ask(self, statement: str, *arguments: object) -> int:
        """The one value of a statement of this package."""
        value: int = await self._connection.fetchval(sql(_PACKAGE, statement), *arguments)
        return value

    async def rows(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of a statement of this package."""
        rows: list[asyncpg.Record] = await self._connection.fetch(sql(_PACKAGE, statement), *arguments)
        return rows

    async def do(self, statement: str, *arguments: object) -> None:
        """A statement of this package that answers nothing."""
        await self._connection.execute(sql(_PACKAGE, statement), *arguments)

    async def events(self) -> int:
        """Events of the record."""
        return await self.ask("count_recorded")

    async def totals(self, sequences: list[int]) -> list[asyncpg.Record]:
        """What record and read models hold; of the record what lies behind these sequences, by partition."""
        statement = await self._of_active_versions("check_totals")
        rows: list[asyncpg.Record] = await self._connection.fetch(statement, sequences, timeout=LONG_STATEMENT_LIMIT_S)
        return rows

    async def empty_read_models(self) -> None:
        """As if the projection worker had never run."""
        await self._connection.execute(await self._of_active_versions("empty_read_models"))
        await self.do("empty_checkpoints", GENESIS)

    async def _of_active_versions(self, statement: str) -> str:
        versions = await self._connection.fetch(sql("projections", "read_active_versions"))
        return sql(_PACKAGE, statement).format(**{row["name"]: row["active_version"] for row in versions})

    @asynccontextmanager
    async def running(
        self,
        *names: str,
        settings: Mapping[str, str] | None = None,
        beside: Coroutine[None, None, None] | None = None,
    ) -> AsyncIterator[dict[str, LedgerProcess]]:
        """These processes, each holding all partitions; a later one starts when the one before it holds them.

        `settings` are further ones, by their names in the environment; `beside` is done while they start.
        """
        processes: dict[str, LedgerProcess] = {}
        work = None if beside is None else asyncio.ensure_future(beside)
        try:
            for name in names:
                began = time.perf_counter()
                process = processes[name] = self._started(name, settings or {})
                if name in _HOLDS_ALL:
                    await self.until(lambda one=process: self._holds_all(one), START_LIMIT_S, processes)  # type: ignore[misc]
                self.start_s[name] = time.perf_counter() - began
            if work is not None:
                await work
            yield processes
        finally:
            if work is not None:
                work.cancel()
            await asyncio.gather(*(process.stop() for process in processes.values()))

    async def until(
        self, reached: Callable[[], Awaitable[bool]], limit_s: float, processes: Mapping[str, LedgerProcess]
    ) -> None:
        """Ask every POLL_S until it is reached.

        Raises:
            MeasurementError: a process ended, or the limit has passed.
        """
        deadline = time.perf_counter() + limit_s
        while not await reached():
            self.require_alive(deadline, processes)
            await asyncio.sleep(POLL_S)

    def require_alive(self, deadline: float, processes: Mapping[str, LedgerProcess]) -> None:
        """Raises MeasurementError: a process ended, or the deadline (of perf_counter) has passed."""
        for process in processes.values():
            process.check()
        if time.perf_counter() > deadline:
            raise MeasurementError(f"it takes too long: something stands still; logs: {self.servers.home}")

    async def _holds_all(self, process: LedgerProcess) -> bool:
        return bool(await self.ask(_HOLDS_ALL[process.name], process.holder))

    def environment(self) -> dict[str, str]:
        """Of a process that works for this ledger."""
        return {
            **os.environ,
            "LEDGER_STACK": "external",
            "LEDGER_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "LEDGER_DATABASE_URL": self.database_url,
            "LEDGER_TOPIC_PREFIX": self.topics.prefix,
            "LEDGER_PARTITIONS": str(PARTITIONS),
            "LEDGER_APPS": OPERATIONS,
        }

    def _started(self, name: str, more: Mapping[str, str]) -> LedgerProcess:
        log_file = self.servers.home / f"{self.topics.prefix}-{name}.log"
        return start_process(name, ["service.cli", "run", name], {**self.environment(), **more}, log_file)


@asynccontextmanager
async def fresh_ledger(servers: Servers) -> AsyncIterator[FreshLedger]:
    """Made empty; dropped at the end."""
    # Copied from one that was migrated once: a migration takes longer than many a measurement.
    async with (
        fresh_database(servers, await ledger_template(servers)) as database_url,
        opened_ledger(servers, database_url, f"bench{uuid.uuid4().hex[:8]}") as ledger,
    ):
        yield ledger


@asynccontextmanager
async def opened_ledger(servers: Servers, database_url: str, prefix: str) -> AsyncIterator[FreshLedger]:
    """The ledger in this database, with its topics, which are made if they are missing."""
    connection = await asyncpg.connect(database_url)
    try:
        ledger = FreshLedger(servers, database_url, connection, prefix)
        async with KafkaTopicAdmin(ledger.kafka) as admin:
            await sync_topics(admin, wanted_topics(ledger.topics, [APP], PARTITIONS, 1, 1), ledger.topics)
        await connection.execute(sql(_PACKAGE, "checkpoint"))
        yield ledger
    finally:
        await connection.close()


@asynccontextmanager
async def fresh_database(servers: Servers, template: str | None = None) -> AsyncIterator[str]:
    """URL of a database that is empty or a copy of the template; dropped at the end."""
    name = f"bench_{uuid.uuid4().hex}"
    try:
        yield await made_database(servers, name, template)
    finally:
        await _execute(servers.addresses.database_url, "drop_database", name)


async def made_database(servers: Servers, name: str, template: str | None = None) -> str:
    """URL of a new database that is empty or a copy of the template."""
    statement = "create_database" if template is None else "copy_database"
    await _execute(servers.addresses.database_url, statement, name, template or "")
    return url_of_database(servers, name)


def url_of_database(servers: Servers, name: str) -> str:
    """Of a database on these servers."""
    return urlunsplit(urlsplit(servers.addresses.database_url)._replace(path=f"/{name}"))


async def ledger_template(servers: Servers) -> str:
    """A database that holds a new ledger, made when it is first asked for; dropped with the servers' data, or by
    `drop_template`."""
    if servers.template is None:
        name = f"bench_template_{uuid.uuid4().hex}"
        server_url = servers.addresses.database_url
        await _execute(server_url, "create_database", name)
        servers.template = name
        await prepare_database(url_of_database(servers, name), PARTITIONS)
    return servers.template


async def drop_template(servers: Servers) -> None:
    """On servers that are not the benchmark's own nothing must be left."""
    if servers.template is not None:
        await _execute(servers.addresses.database_url, "drop_database", servers.template)
        servers.template = None


async def _execute(server_url: str, statement: str, name: str, template: str = "") -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(sql(_PACKAGE, statement).format(name=name, template=template))
    finally:
        await connection.close()
