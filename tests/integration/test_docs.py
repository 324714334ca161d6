"""What the README and the guide tell to type is typed, beside a running `ledger up`, and answers as told."""

import asyncio
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.stack import Addresses
from tests.docs_pages import ROOT, commands, text_of
from tests.servers import fresh_database, server_home

pytestmark = pytest.mark.integration

STOP_LIMIT_S = 60.0
COMMAND_LIMIT_S = 60.0
PREPARATIONS = ("make ", ". ", "export ", "PYTHONPATH=")
"""What the fixture has done already."""

LOCAL_SERVICE = re.compile(r"(http://)?(localhost|127\.0\.0\.1):8000")


@dataclass(frozen=True)
class Newcomer:
    """Somebody with a terminal, beside one in which the ledger runs."""

    url: str
    environment: dict[str, str]

    def types(self, line: str) -> str:
        """Type a line as a page has it; what is printed. Fails when the command does."""
        words = shlex.split(line)
        match words[0]:
            case "curl":
                return self.asks(words[1:])[1]
            case "ledger":
                words[:1] = [sys.executable, "-m", "service.cli"]
            case "python":
                words[0] = sys.executable
        words = [LOCAL_SERVICE.sub(self.url, word) for word in words]
        ended = subprocess.run(
            words,
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def asks(self, words: list[str]) -> tuple[int, str]:
        """What `curl` with these words would print, and the status. (Not every machine has it.)"""
        url, headers, body, method = "", {}, None, None
        rest = iter(words)
        for word in rest:
            match word:
                case "-s":
                    pass
                case "-X":
                    method = next(rest)
                case "-H":
                    name, _, value = next(rest).partition(": ")
                    headers[name] = value
                case "-d":
                    body = next(rest).encode()
                case _:
                    assert not url, f"what is {word}?"
                    url = LOCAL_SERVICE.sub(self.url, word)
        request = urllib.request.Request(url, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=COMMAND_LIMIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@contextmanager
def ledger_up(servers: Addresses, database_url: str, home: Path) -> Iterator[Newcomer]:
    """`ledger up` with the example app and the bakery, in a terminal of its own, until Ctrl-C."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")},
        "PYTHONPATH": str(ROOT),
        "NO_COLOR": "1",
        "LEDGER_HOME": str(home),
        "LEDGER_TOPIC_PREFIX": f"t{uuid.uuid4().hex[:12]}",
        "LEDGER_APPS": "docs.examples.bakery.operations:BakeryOperations",
        "LEDGER_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
        "LEDGER_DATABASE_URL": database_url,
        "LEDGER_HTTP_PORT": "0",
    }
    terminal = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "up"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert terminal.stdout is not None
    try:
        said = []
        for line in terminal.stdout:
            said.append(line)
            if line.startswith("ready "):
                break
        else:
            raise AssertionError("".join(said))
        yield Newcomer(line.removeprefix("ready ").strip(), environment)
        terminal.terminate()
        said += terminal.communicate(timeout=STOP_LIMIT_S)[0]
        assert terminal.returncode == 0, "".join(said)
    finally:
        terminal.kill()
        terminal.wait()


@pytest.fixture(scope="module")
def newcomer(servers: Addresses) -> Iterator[Newcomer]:
    with asyncio.Runner() as runner, server_home() as home:
        database = fresh_database(servers.database_url)
        database_url = runner.run(database.__aenter__())
        try:
            with ledger_up(servers, database_url, home) as made:
                yield made
        finally:
            runner.run(database.__aexit__(None, None, None))


def typed(page: str) -> list[tuple[str, list[str]]]:
    """What a page tells to type once the ledger runs, and what each answer contains."""
    return [(line, claims) for line, claims in commands(ROOT / page) if not line.startswith(PREPARATIONS)]


def contains(output: str, claim: str) -> bool:
    return re.search(rf"(?<![\w.:-]){re.escape(claim)}(?![\w.:-])", output) is not None


def without_positions(text: str) -> str:
    """Which partition an owner is on depends on how many there are."""
    return re.sub(r"\b\d+:\d+\b", "P:S", text)


def test_the_readme_answers_as_it_says(newcomer: Newcomer) -> None:
    lines = typed("README.md")
    assert [line.split()[0] for line, _ in lines] == ["ledger"] * 4 + ["curl"] * 2
    for line, claims in lines:
        output = newcomer.types(line)
        assert claims, f"the page does not say what comes of: {line}"
        for claim in claims:
            assert contains(output, claim), f"{line}\n{output}"

    [post] = [line for line, _ in lines if "POST" in line]
    status, body = newcomer.asks(shlex.split(post)[1:])
    assert status == 400
    assert json.loads(body)["detail"] in text_of("README.md")

    assert newcomer.types("python docs/examples/first_submit.py") == "30\n"


def test_the_guide_answers_as_it_says(newcomer: Newcomer) -> None:
    lines = [line for line, _ in typed("docs/guide.md")]
    [day] = [line for line in lines if line.startswith("python ")]
    [shown] = re.findall(r"```text\n(cards:.*?)```", text_of("docs/guide.md"), re.DOTALL)

    assert without_positions(newcomer.types(day)) == without_positions(shown)
    second_day = newcomer.types(day)
    assert "'mary': 'refused: DUPLICATE_NONCE'" in second_day
    assert "order-1: order-1 is paid already" in second_day
    assert "balances: {'credits': 350}" in second_day

    answers = {line: newcomer.types(line) for line in lines if line != day}
    assert "bakery" in answers["ledger apps"]
    topics = answers["ledger topics sync"]
    prefix = newcomer.environment["LEDGER_TOPIC_PREFIX"]
    assert re.search(rf"{prefix}\.commands\.bakery +│ as it should be", topics), topics
    assert re.search(rf"{prefix}\.parked\.bakery +│ as it should be", topics), topics
    credits, points, both, page = [json.loads(answer) for line, answer in answers.items() if line.startswith("curl ")]
    assert (credits["balance"], points["balance"]) == (350, 0)
    assert [one["balance"] for one in both["balances"]] == [350, 0]
    assert len(page["entries"]) == 10
    assert {entry["reason"] for entry in page["entries"]} >= {None, "OPERATION_NOT_ALLOWED", "DUPLICATE_NONCE"}
