"""A new, empty ledger on the benchmark's servers, and its processes: the ones that `make run` starts."""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.commands import APP, OPERATIONS
from benchmarks.servers import Servers
from benchmarks.sizes import PARTITIONS
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.topics_sync import sync_topics, wanted_topics
from ledger.messages.topics import Topics
from ledger.sql_files import sql
from service.database import prepare_database

START_LIMIT_S: Final = 60.0
STOP_LIMIT_S: Final = 30.0
POLL_S: Final = 0.01

_PACKAGE: Final = "benchmarks"
_HOLDS_ALL: Final = {"consumer": "consumer_holds_all", "projector": "projector_holds_all"}
_LOG_LINES: Final = 15


class MeasurementError(Exception):
    """What was to be measured did not happen; the text says what."""


class LedgerProcess:
    """`ledger run NAME` as a process of its own."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._log_file = log_file

    def check(self) -> None:
        """Raises MeasurementError when it has ended."""
        if self._process.poll() is not None:
            lines = "\n".join(self._log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise MeasurementError(f"the {self.name} ended with {self._process.returncode}:\n{lines}")

    async def stop(self) -> None:
        """Orderly, then by force."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


class FreshLedger:
    """Topics under a prefix of their own and a database of its own."""

    def __init__(self, servers: Servers, database_url: str, connection: asyncpg.Connection) -> None:
        self.servers = servers
        self.kafka = servers.kafka
        self.topics = Topics(f"bench{uuid.uuid4().hex[:8]}")
        self._database_url = database_url
        self._connection = connection

    async def ask(self, statement: str) -> int:
        """The one value of a statement of this package."""
        value: int = await self._connection.fetchval(sql(_PACKAGE, statement))
        return value

    async def rows(self, statement: str) -> list[asyncpg.Record]:
        """The rows of a statement of this package."""
        rows: list[asyncpg.Record] = await self._connection.fetch(sql(_PACKAGE, statement))
        return rows

    @asynccontextmanager
    async def running(self, *names: str) -> AsyncIterator[dict[str, LedgerProcess]]:
        """These processes, each holding all partitions; a later one starts when the one before it holds them."""
        processes: dict[str, LedgerProcess] = {}
        try:
            for name in names:
                processes[name] = self._started(name)
                await self.until(lambda name=name: self._holds_all(name), START_LIMIT_S, processes)  # type: ignore[misc]
            yield processes
        finally:
            for process in reversed(processes.values()):
                await process.stop()

    async def until(
        self, reached: Callable[[], Awaitable[bool]], limit_s: float, processes: dict[str, LedgerProcess]
    ) -> None:
        """Ask every POLL_S until it is reached.

        Raises:
            MeasurementError: a process ended, or the limit has passed.
        """
        deadline = asyncio.get_running_loop().time() + limit_s
        while not await reached():
            for process in processes.values():
                process.check()
            if asyncio.get_running_loop().time() > deadline:
                raise MeasurementError(f"not reached within {limit_s:g} s; logs: {self.servers.home}")
            await asyncio.sleep(POLL_S)

    async def _holds_all(self, name: str) -> bool:
        return bool(await self.ask(_HOLDS_ALL[name]))

    def _started(self, name: str) -> LedgerProcess:
        environment = {
            "LEDGER_STACK": "external",
            "LEDGER_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "LEDGER_DATABASE_URL": self._database_url,
            "LEDGER_TOPIC_PREFIX": self.topics.prefix,
            "LEDGER_PARTITIONS": str(PARTITIONS),
            "LEDGER_APPS": OPERATIONS,
        }
        log_file = self.servers.home / f"{self.topics.prefix}-{name}.log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", "run", name],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        return LedgerProcess(name, process, log_file)


@asynccontextmanager
async def fresh_ledger(servers: Servers) -> AsyncIterator[FreshLedger]:
    """Made empty; dropped at the end."""
    async with fresh_database(servers) as database_url:
        await prepare_database(database_url, PARTITIONS)
        connection = await asyncpg.connect(database_url)
        try:
            ledger = FreshLedger(servers, database_url, connection)
            async with KafkaTopicAdmin(ledger.kafka) as admin:
                await sync_topics(admin, wanted_topics(ledger.topics, [APP], PARTITIONS, 1, 1), ledger.topics)
            await connection.execute(sql(_PACKAGE, "checkpoint"))
            yield ledger
        finally:
            await connection.close()


@asynccontextmanager
async def fresh_database(servers: Servers) -> AsyncIterator[str]:
    """URL of an empty database; dropped at the end."""
    server_url = servers.addresses.database_url
    name = f"bench_{uuid.uuid4().hex}"
    await _execute(server_url, "create_database", name)
    try:
        yield urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
    finally:
        await _execute(server_url, "drop_database", name)


async def _execute(server_url: str, statement: str, name: str) -> None:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(sql(_PACKAGE, statement).format(name=name))
    finally:
        await connection.close()
