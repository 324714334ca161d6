"""The whole ledger in containers: `docker compose --profile app up`. Skipped without an engine."""

import json
import os
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from service.stack.compose import COMPOSE_FILE
from service.stack.engine import why_no_engine
from service.stack.ports import LOOPBACK, choose_free

_NO_ENGINE = why_no_engine(compose=True)
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(_NO_ENGINE is not None, reason=f"no engine: {_NO_ENGINE}"),
    pytest.mark.timeout(600),
]
SERVICES = ("kafka", "postgres", "migrate", "roles", "topics", "consumer", "projector", "http")
PORTS = ("LEDGER_KAFKA_PORT", "LEDGER_POSTGRES_PORT", "LEDGER_POSTGRES_TEST_PORT", "LEDGER_HTTP_PORT")
ANSWERS_WITHIN_S = 30


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """A project of this test alone, on free ports; removed at the end with its volumes."""
    ports = {name: str(port) for name, port in zip(PORTS, choose_free(len(PORTS)), strict=True)}
    variables = {**os.environ, **ports, "COMPOSE_PROJECT_NAME": f"ledger-test-{uuid.uuid4().hex[:8]}"}
    yield variables
    _compose(variables, "--profile", "*", "down", "--volumes", "--timeout", "10")


def test_a_signup_over_http_reaches_the_balance(environment: dict[str, str]) -> None:
    _compose(environment, "--profile", "app", "up", "--detach", "--wait", "--build", *SERVICES)
    base = f"http://{LOOPBACK}:{environment['LEDGER_HTTP_PORT']}"
    assert _ask(f"{base}/health/ready")
    answer = _ask(f"{base}/signup?owner_id=ada", method="POST")
    assert answer["balance"] == 3
    assert _ask(f"{base}/balance/ada")["balance"] == 3
    who = _compose(environment, "exec", "-T", "http", "id", "-un")
    assert who.strip() == "ledger"


def _ask(url: str, method: str = "GET") -> Any:
    request = urllib.request.Request(url, method=method)
    with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as response:
        return json.load(response)


def _compose(environment: dict[str, str], *arguments: str) -> str:
    command = ["docker", "compose", "--file", str(COMPOSE_FILE), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        logs = subprocess.run(
            [*command[:4], "logs", "--tail", "20"], env=environment, capture_output=True, text=True, check=False
        )
        pytest.fail(f"docker compose {arguments} failed:\n{done.stderr[-3000:]}\n{logs.stdout[-6000:]}")
    return done.stdout
