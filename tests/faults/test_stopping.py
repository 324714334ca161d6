"""A consumer that is told to stop while a server hangs ends within its limit, and the next one finishes its work."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ledger.broker.protocol import OutgoingRecord
from ledger.messages.command_codec import encode_command
from service.processes.lifecycle import FORCED_CODE, STOP_LIMIT_S
from service.stack.local_kafka import LocalKafka
from service.stack.ports import choose_free
from service.stack.resolver import default_cache
from tests.cli_process import cli_environment
from tests.greetings import Lines
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.nemesis.tcp_proxy import Direction, TcpProxy
from tests.servers import server_home

pytestmark = pytest.mark.slow

COMMANDS = 4_000
ENDS_WITHIN_S = STOP_LIMIT_S + 5.0
"""The limit, and what a busy machine needs to end a process."""


@pytest.fixture
async def kafka() -> AsyncIterator[LocalKafka]:
    """A broker of a test's own, which it may freeze."""
    with server_home() as home:
        server = LocalKafka(home / "kafka", default_cache(), *choose_free(2))
        await server.start(Lines())
        yield server
        await server.stop(Lines())


@pytest.fixture
async def proxy(postgres_server_url: str) -> AsyncIterator[TcpProxy]:
    port = urlsplit(postgres_server_url).port
    assert port is not None
    made = TcpProxy(port)
    await made.start()
    yield made
    await made.stop()


@contextlib.contextmanager
def consumer(ledger: LedgerOnServers, home: Path, database_url: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ledger run consumer`, gone afterwards."""
    environment = cli_environment(ledger, home) | {"LEDGER_DATABASE_URL": database_url}
    with (home / "consumer.log").open("wb") as log:
        arguments = [sys.executable, "-m", "service.cli", "run", "consumer"]
        process = subprocess.Popen(arguments, env=environment, cwd=home, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def ended(process: subprocess.Popen[bytes]) -> tuple[int, float]:
    """Tell it to stop; its exit code, and after how many seconds it ended."""
    process.send_signal(signal.SIGTERM)
    at = time.monotonic()
    code = await asyncio.to_thread(process.wait, 3 * STOP_LIMIT_S)
    return code, time.monotonic() - at


async def with_a_backlog(ledger: LedgerOnServers) -> None:
    for owner in ("ada", "bob", "cy"):
        records = [OutgoingRecord(owner.encode(), encode_command(command(owner))) for _ in range(COMMANDS)]
        await ledger.publisher.publish(ledger.topics.commands("example-app"), ledger.partition(owner), records)


async def the_next_holder_finishes(ledger: LedgerOnServers) -> None:
    async with ledger.running("heir"):
        await ledger.until_events(3 * COMMANDS)
        await ledger.until_published()
    events = await ledger.events()
    assert len({event.command_id for event in events}) == 3 * COMMANDS
    published = await ledger.published(ledger.topics.events)
    assert {event.position for _, event in published} == {event.position for event in events}


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_stop_while_postgres_hangs_ends_within_its_limit(
    kafka_bootstrap: str, empty_database_url: str, proxy: TcpProxy, tmp_path: Path, direction: Direction
) -> None:
    parts = urlsplit(empty_database_url)
    through = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}").geturl()
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as ledger:
        await with_a_backlog(ledger)
        with consumer(ledger, tmp_path, through) as process:
            await ledger.until("SELECT count(*) > 0 FROM ledger.event", True)
            proxy.block(direction)
            code, after_s = await ended(process)
        assert code == FORCED_CODE, (tmp_path / "consumer.log").read_text()
        assert after_s < ENDS_WITHIN_S
        await the_next_holder_finishes(ledger)


async def test_a_stop_while_kafka_hangs_ends_within_its_limit(
    kafka: LocalKafka, empty_database_url: str, tmp_path: Path
) -> None:
    """What is fetched is decided and committed meanwhile, and cannot be published."""
    pid = kafka.process.pid
    assert pid is not None
    async with ledger_on_servers(kafka.address, empty_database_url) as ledger:
        await with_a_backlog(ledger)
        with consumer(ledger, tmp_path, empty_database_url) as process:
            await ledger.until("SELECT count(*) > 0 FROM ledger.event", True)
            os.kill(pid, signal.SIGSTOP)
            try:
                code, after_s = await ended(process)
            finally:
                os.kill(pid, signal.SIGCONT)
        assert code == FORCED_CODE, (tmp_path / "consumer.log").read_text()
        assert after_s < ENDS_WITHIN_S
        await the_next_holder_finishes(ledger)


async def test_a_stop_with_both_there_is_in_order(
    kafka_bootstrap: str, empty_database_url: str, tmp_path: Path
) -> None:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as ledger:
        with consumer(ledger, tmp_path, empty_database_url) as process:
            await ledger.send(command("ada"))
            await ledger.until_events(1)
            code, _ = await ended(process)
        assert code == 0, (tmp_path / "consumer.log").read_text()
        await ledger.until_published()
        assert await ledger.pool.fetchval("SELECT count(holder) FROM ledger.partition_head") == 0
