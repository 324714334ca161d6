"""Kafka and Postgres as local processes: they start, come back with their data, and leave nothing behind."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from service.stack import Addresses, Stack, StackError, resolve, running_stack, stop_running
from service.stack.local_postgres import LocalPostgres
from service.stack.ports import LOOPBACK, choose_free
from service.stack.state import remembered_ports
from tests.greetings import Lines, read, write
from tests.servers import server_home

pytestmark = pytest.mark.integration
GONE_WITHIN_S = 15.0
PORT_NAMES = ("kafka", "kafka_controller", "postgres")


@pytest.fixture
def home() -> Iterator[Path]:
    with server_home() as folder:
        yield folder


def local_stack(home: Path) -> Stack:
    return resolve("local", None, None, home, purpose="run").stack


@asynccontextmanager
async def started(home: Path) -> AsyncIterator[Addresses]:
    stack = local_stack(home)
    addresses = await stack.start(Lines())
    try:
        yield addresses
    finally:
        await stack.stop(Lines())


def local_postgres(home: Path) -> LocalPostgres:
    return LocalPostgres(home / "postgres", remembered_ports(home, PORT_NAMES)["postgres"], durable=True)


@asynccontextmanager
async def started_postgres(home: Path) -> AsyncIterator[None]:
    postgres = local_postgres(home)
    await postgres.start(Lines())
    try:
        yield
    finally:
        await postgres.stop(Lines())


def processes_of(home: Path) -> list[psutil.Process]:
    """Servers that run from the home, however they were started."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if str(home) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


async def until_nothing_runs_from(home: Path) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while found := processes_of(home):
        assert time.monotonic() < deadline, f"still running: {found}"
        await asyncio.sleep(0.1)


async def test_a_restart_finds_the_data_and_two_programs_never_share_it(home: Path) -> None:
    async with started(home) as first:
        await write(first, "hello")
        assert running_stack(home) is not None
        with pytest.raises(StackError, match="a ledger runs already from"):
            await local_stack(home).start(Lines())
    assert processes_of(home) == []
    assert running_stack(home) is None
    async with started(home) as second:
        assert second == first
        assert await read(second, 1) == (["hello"], ["hello"])


async def test_servers_that_were_killed_come_back_with_what_they_had_confirmed(home: Path) -> None:
    stack = local_stack(home)
    addresses = await stack.start(Lines())
    await write(addresses, "before the crash")
    for status in await stack.status():
        assert status.pid is not None
        psutil.Process(status.pid).kill()
    # A power cut also takes the program that started them, and with it the home's lock.
    await until_nothing_runs_from(home)
    del stack
    async with started(home) as again:
        assert await read(again, 1) == (["before the crash"], ["before the crash"])


async def test_servers_left_by_a_program_that_was_killed_are_used_by_the_next_and_stopped_by_down(home: Path) -> None:
    starter = (
        "import asyncio, os, signal, sys; from pathlib import Path; from service.stack import resolve\n"
        "stack = resolve('local', None, None, Path(sys.argv[1]), purpose='run').stack\n"
        "asyncio.run(stack.start(print)); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", starter, str(home)], check=False)
    assert killed.returncode == -signal.SIGKILL
    stack, said = local_stack(home), Lines()
    await stack.start(said)
    assert "Kafka runs already" in str(said)
    assert "Postgres runs already" in str(said)
    # `make down` in another shell.
    assert await stop_running(home, Lines())
    assert processes_of(home) == []
    assert not await stop_running(home, Lines())


@pytest.mark.parametrize("server", ["kafka", "postgres"])
async def test_a_taken_port_is_named_with_its_holder_and_nothing_stays_behind(home: Path, server: str) -> None:
    ports = remembered_ports(home, PORT_NAMES)
    with socket.socket() as intruder:
        intruder.bind((LOOPBACK, ports[server]))
        intruder.listen()
        with pytest.raises(StackError, match=rf"port {ports[server]}, which .* is taken by process \d+ .*ports.json"):
            await local_stack(home).start(Lines())
    assert processes_of(home) == []


async def test_named_servers_that_do_not_answer_fail_and_nothing_else_is_tried(home: Path) -> None:
    kafka, postgres = choose_free(2)
    database = f"postgresql://ledger:secret@{LOOPBACK}:{postgres}/ledger"
    stack = resolve("auto", f"{LOOPBACK}:{kafka}", database, home, purpose="run").stack
    with pytest.raises(StackError, match="nothing else is tried") as failed:
        await stack.start(Lines())
    assert f"Kafka at {LOOPBACK}:{kafka} (LEDGER_KAFKA_BOOTSTRAP_SERVERS) does not answer" in str(failed.value)
    assert "secret" not in str(failed.value)
    assert processes_of(home) == []
    assert running_stack(home) is None


async def test_named_servers_that_answer_are_used_and_never_stopped(home: Path, servers: Addresses) -> None:
    kafka, database = servers.kafka_bootstrap_servers, servers.database_url
    stack = resolve("auto", kafka, database, home, purpose="run").stack
    assert await stack.start(Lines()) == servers
    await stack.stop(Lines())
    again = resolve("external", kafka, database, home, purpose="run").stack
    assert await again.start(Lines()) == servers
    assert all(status.answers for status in await again.status())
    await again.stop(Lines())


async def test_a_first_start_that_was_cut_short_is_begun_again(home: Path) -> None:
    async with started(home):
        pass
    # As if power had failed in the middle: data is there, the marks that it is whole are not.
    (home / "kafka" / "data" / "meta.properties").unlink()
    (home / "postgres" / "server" / "initialised").unlink(missing_ok=True)
    (home / "postgres" / "initialised").unlink(missing_ok=True)
    async with started(home) as addresses:
        await write(addresses, "hello")
        assert await read(addresses, 1) == (["hello"], ["hello"])


async def test_a_pid_file_of_postgres_that_names_another_program_does_not_prevent_a_start(home: Path) -> None:
    async with started_postgres(home):
        pass
    (data,) = home.glob("postgres/**/postgresql.conf")
    with subprocess.Popen(["sleep", "60"]) as other:
        data.with_name("postmaster.pid").write_text(f"{other.pid}\n{data.parent}\n1\n5432\n\n127.0.0.1\n\nready\n")
        async with started_postgres(home):
            assert other.poll() is None
        other.kill()


async def test_a_killed_test_session_leaves_no_server(home: Path) -> None:
    session = (
        "import asyncio, sys, time; from pathlib import Path; from service.stack import resolve\n"
        "stack = resolve('local', None, None, Path(sys.argv[1]), purpose='test').stack\n"
        "asyncio.run(stack.start(lambda line: None)); print('ready', flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", session, str(home)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert await asyncio.to_thread(killed.stdout.readline) == b"ready\n"
        assert len(processes_of(home)) >= 3
        killed.kill()
        await until_nothing_runs_from(home)
    assert not home.exists()
    home.mkdir()


async def test_a_server_that_cannot_start_shows_its_log(home: Path) -> None:
    async with started_postgres(home):
        pass
    (configuration,) = home.glob("postgres/**/postgresql.auto.conf")
    configuration.write_text(f"no_such_setting_{uuid.uuid4().hex} = on\n")
    with pytest.raises(StackError, match=r"Postgres was started and ended[\s\S]*no_such_setting"):
        await local_postgres(home).start(Lines())
    assert processes_of(home) == []
