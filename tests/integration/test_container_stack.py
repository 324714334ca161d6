"""Kafka and Postgres in containers: compose for running, testcontainers for testing. Skipped without an engine."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.stack import Stack, StackError, resolve, running_stack, stop_running
from service.stack.compose import COMPOSE_FILE, remove_volumes
from service.stack.engine import why_no_engine
from service.stack.ports import LOOPBACK, choose_free
from tests.greetings import Lines, read, write

_NO_ENGINE = why_no_engine(compose=True)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(_NO_ENGINE is not None, reason=f"no engine: {_NO_ENGINE}"),
    pytest.mark.timeout(300),
]
REMOVED_WITHIN_S = 60.0


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A compose project of this test alone, on free ports; removed at the end with its volumes."""
    name = f"ledger-test-{uuid.uuid4().hex[:8]}"
    kafka, postgres = choose_free(2)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", name)
    monkeypatch.setenv("LEDGER_KAFKA_PORT", str(kafka))
    monkeypatch.setenv("LEDGER_POSTGRES_PORT", str(postgres))
    yield name
    asyncio.run(remove_volumes(Lines()))


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout


def compose_stack(home: Path) -> Stack:
    return resolve("docker", None, None, home, purpose="run").stack


def test_a_restart_finds_the_data_at_the_same_addresses(project: str, tmp_path: Path) -> None:
    async def run() -> None:
        stack = compose_stack(tmp_path)
        first = await stack.start(Lines())
        await write(first, "hello")
        await stack.stop(Lines())
        assert docker("ps", "--quiet", "--filter", f"label=com.docker.compose.project={project}") == ""
        assert running_stack(tmp_path) is None
        again = compose_stack(tmp_path)
        assert await again.start(Lines()) == first
        assert all(status.answers for status in await again.status())
        assert await read(first, 1) == (["hello"], ["hello"])
        await again.stop(Lines())

    asyncio.run(run())


@pytest.mark.usefixtures("project")
def test_containers_that_ran_before_are_used_and_run_on(tmp_path: Path) -> None:
    async def run() -> None:
        command = ["docker", "compose", "--file", str(COMPOSE_FILE), "up", "--detach", "--wait", "postgres"]
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
        stack, said = compose_stack(tmp_path), Lines()
        await stack.start(said)
        assert "starting containers: kafka" in said
        await stack.stop(Lines())
        kafka, postgres = await stack.status()
        assert (kafka.answers, postgres.answers) == (False, True)

    asyncio.run(run())


@pytest.mark.usefixtures("project")
def test_down_from_another_shell_stops_the_containers(tmp_path: Path) -> None:
    async def run() -> None:
        up = [sys.executable, "-m", "service.stack", "up"]
        await asyncio.to_thread(
            subprocess.run, up, check=True, capture_output=True, env=_environment(tmp_path, LEDGER_STACK="docker")
        )
        assert running_stack(tmp_path) is not None
        assert await stop_running(tmp_path, Lines())
        assert [status.answers for status in await compose_stack(tmp_path).status()] == [False, False]

    asyncio.run(run())


@pytest.mark.usefixtures("project")
def test_a_taken_port_is_named_with_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as intruder:
        intruder.bind((LOOPBACK, 0))
        intruder.listen()
        port = intruder.getsockname()[1]
        monkeypatch.setenv("LEDGER_POSTGRES_PORT", str(port))
        with pytest.raises(StackError, match=rf"port {port}, .*postgres.* is taken by .*LEDGER_POSTGRES_PORT="):
            asyncio.run(compose_stack(tmp_path).start(Lines()))


def test_compose_publishes_what_its_users_expect_on_loopback_only() -> None:
    default = _configuration(_environment())
    everything = _configuration(_environment(COMPOSE_PROFILES="app,tools"))
    assert set(default["services"]) == {"kafka", "postgres", "postgres-test"}
    published = {
        name: [(port["host_ip"], port["published"]) for port in service.get("ports", ())]
        for name, service in everything["services"].items()
    }
    assert published == {
        "kafka": [(LOOPBACK, "9092")],
        "postgres": [(LOOPBACK, "5432")],
        "postgres-test": [(LOOPBACK, "5433")],
        "pgadmin": [(LOOPBACK, "5050")],
        "http": [(LOOPBACK, "8000")],
        "migrate": [],
        "topics": [],
        "consumer": [],
        "projector": [],
        "roles": [],
    }
    assert set(everything["volumes"]) == {"kafka", "postgres", "postgres-test", "pgadmin"}
    for name in ("kafka", "postgres", "postgres-test", "pgadmin"):
        assert "test" in everything["services"][name]["healthcheck"], name


def test_containers_of_a_test_session_answer_and_are_gone_afterwards(tmp_path: Path) -> None:
    async def run() -> None:
        stack = resolve("docker", None, None, tmp_path, purpose="test").stack
        addresses = await stack.start(Lines())
        await write(addresses, "hello")
        assert await read(addresses, 1) == (["hello"], ["hello"])
        await stack.stop(Lines())
        assert [status.answers for status in await stack.status()] == [False, False]

    asyncio.run(run())


def test_a_killed_test_session_leaves_no_container(tmp_path: Path) -> None:
    session = (
        "import asyncio, sys, time; from pathlib import Path; from service.stack import resolve\n"
        "from testcontainers.core.labels import SESSION_ID\n"
        "stack = resolve('docker', None, None, Path(sys.argv[1]), purpose='test').stack\n"
        "asyncio.run(stack.start(lambda line: None)); print(SESSION_ID, flush=True); time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", session, str(tmp_path)], stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        session_id = killed.stdout.readline().decode().strip()
        label = f"label=org.testcontainers.session-id={session_id}"
        assert len(docker("ps", "--quiet", "--filter", label).split()) >= 2
        killed.kill()
    deadline = time.monotonic() + REMOVED_WITHIN_S
    while left := docker("ps", "--quiet", "--filter", label):
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.5)  # the reaper removes them when it likes


def _environment(home: Path | None = None, **variables: str) -> dict[str, str]:
    kept = ("PATH", "HOME", "DOCKER_HOST", "COMPOSE_PROJECT_NAME", "LEDGER_KAFKA_PORT", "LEDGER_POSTGRES_PORT")
    environment = {name: value for name in kept if (value := os.environ.get(name)) is not None}
    if home is None:
        environment = {name: environment[name] for name in ("PATH", "HOME") if name in environment}
    else:
        environment["LEDGER_HOME"] = str(home)
    return environment | variables


def _configuration(environment: dict[str, str]) -> Any:
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), "config", "--format", "json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
