"""Passwords known to the test, and everything that real processes print, log, answer and show in the list of processes.

The first test is also the whole path with the logins as a deployment has them: a process knows its own and no other.
"""

import asyncio
import contextlib
import csv
import json
import os
import pty
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx
import psutil
import pytest

from ledger.event_store.database_url import with_login
from ledger.messages.command_codec import encode_command
from projections.registry import READ_MODELS
from projections.versions import install
from service.logins import LOGINS_OF
from service.stack import Addresses
from service.stack.ports import LOOPBACK, choose_free
from service.up.children import database_environment, own_environment
from tests.cli_process import ROOT, cli_environment, ledger_cli
from tests.database_logins import logins_of
from tests.ledger_on_servers import WAIT_S, LedgerOnServers, command, ledger_on_servers
from tests.servers import server_home

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

SENTINEL = "s3nt1nel-9f2c"
COMMANDS = ("status --json", "partitions", "balance ada --json", "verify", "roles check", "apps --json")


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


class Running:
    """One of the ledger's processes, and all that it prints."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.text = ""
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(65_536):
            self.text += data.decode(errors="replace")

    async def until_said(self, what: str) -> None:
        async with asyncio.timeout(WAIT_S):
            while what not in self.text and not self._reading.done():  # noqa: ASYNC110 - it comes from a pipe
                await asyncio.sleep(0.05)
        assert what in self.text, self.text

    async def ended(self) -> int:
        async with asyncio.timeout(WAIT_S):
            await self._reading
            return await self.process.wait()


@asynccontextmanager
async def running(name: str, environment: dict[str, str]) -> AsyncIterator[Running]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.cli",
        "run",
        name,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        cwd=ROOT,
    )
    made = Running(process)
    try:
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await made.ended()


def command_lines() -> str:
    """Of every process of this machine but ourselves, as `ps` shows them to anybody."""
    lines = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid():
                lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


def shown(secrets: Iterable[str], text: str) -> list[str]:
    """The parts of the text around each secret in it."""
    return [text[max(0, at - 200) : at + 50] for secret in secrets if (at := text.find(secret)) >= 0]


def password_of(url: str) -> str:
    return unquote(urlsplit(url).password or "")


def all_urls(addresses: Addresses) -> dict[str, str]:
    return database_environment(addresses, ("writer", "projector", "reader", "app")) | {
        "LEDGER_DATABASE_URL": addresses.database_url
    }


@pytest.mark.slow
async def test_the_whole_path_with_a_login_for_each_process_shows_no_secret(
    ledger: LedgerOnServers, tmp_path: Path
) -> None:
    port = choose_free(1)[0]
    common = cli_environment(ledger, tmp_path) | {"LEDGER_LOG_LEVEL": "DEBUG", "LEDGER_HTTP_PORT": str(port)}
    output: list[str] = []
    async with (
        logins_of(ledger.database_url, ledger.bootstrap, SENTINEL) as logins,
        contextlib.AsyncExitStack() as stack,
        httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as http,
    ):
        secrets = [SENTINEL, password_of(ledger.database_url)]
        processes = []
        for name, own in LOGINS_OF.items():
            environment = own_environment(common, database_environment(logins, own))
            assert "LEDGER_DATABASE_URL" not in environment
            processes.append(await stack.enter_async_context(running(name, environment)))
        await ledger.until("SELECT count(*) FROM ledger.partition_head WHERE holder IS NULL", 0)
        async with asyncio.timeout(WAIT_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get("/health/ready")).status_code == 200:
                        break
                await asyncio.sleep(0.1)

        signup = await http.post("/signup", params={"owner_id": "ada"})
        assert signup.status_code == 200, signup.text
        top_up = {"operation": "CREDIT_ADD", "owner_id": "ada", "nonce": "n", "amount": 20}
        posted = await http.post("/ledger", json=top_up)
        article = await http.post("/content", params={"owner_id": "ada"}, json={"title": "t"})
        assert article.status_code == 200, article.text
        where = posted.json()["entry"]
        found = await http.get(f"/commands/{where['command_id']}", params={"owner_id": "ada"})
        assert found.status_code == 200, found.text
        assert (await http.get("/balance/ada")).json()["balance"] == 18
        for answer in (signup, posted, article, found, await http.get("/health/ready"), await http.get("/nowhere")):
            output.append(answer.text + str(answer.headers))

        environment = common | all_urls(logins)
        with (tmp_path / "history.csv").open("w", newline="") as file:
            columns = ("owner_id", "nonce", "operation", "amount", "occurred_on")
            csv.writer(file).writerows([columns, ("grace", "g", "CREDIT_ADD", 5, "1993-01-05")])
        stray = (ledger.partition("linus") + 1) % ledger.partitions
        offset = await ledger.send_bytes(encode_command(command("linus")), b"linus", partition=stray)
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 1)
        for line in (
            f"import {tmp_path}/history.csv --app example-app",
            f"quarantine retry example-app:{stray}:{offset}",
            "rebuild",
            "topics sync",
            "migrate",
            "roles create",
            *(one for one in COMMANDS if not one.startswith("status")),
        ):
            done = await ledger_cli(*line.split(), environment=environment, folder=tmp_path)
            assert done.code == 0, (line, done.err)
            output += [done.out, done.err]
        await ledger.until("SELECT balance FROM ledger.account WHERE owner_id = 'linus'", 10)

        wanted = ("--app", "example-app", "--scope", "read")
        made = await ledger_cli("keys", "create", *wanted, "--json", environment=environment)
        assert made.code == 0, made.err
        key = made.document["key"]  # shown here, once, and nowhere again
        secrets += [key, key.rpartition("_")[2]]
        async with asyncio.timeout(WAIT_S):
            while (await http.get("/balance/ada")).status_code != 401:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.1)
        for header in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}, {"X-API-Key": f"{key}{SENTINEL}"}):
            for path, body in (("/balance/ada", None), ("/ledger", top_up), (f"/{SENTINEL[:4]}", None)):
                answer = await http.request("GET" if body is None else "POST", path, json=body, headers=header)
                output.append(answer.text + str(answer.headers))
        listed = await ledger_cli("keys", "list", "--json", environment=environment)
        output += [listed.out, listed.err]
        status = await ledger_cli("status", "--json", environment=environment)
        assert "ledger_id" in status.out, status.err
        output += [status.out, status.err, command_lines()]
        # Each connects as itself, and as nobody else.
        users = await ledger.pool.fetch(
            "SELECT DISTINCT usename::text, split_part(application_name, ' ', 2) AS what FROM pg_stat_activity "
            "WHERE datname = current_database() AND usename LIKE 'test\\_%'"
        )
        kinds = {(row["usename"].split("_")[1], row["what"]) for row in users}
        assert {("writer", "consumer"), ("projector", "worker"), ("reader", "queries")} <= kinds
        for process in processes:
            process.process.terminate()
            assert await process.ended() == 0, process.text
            output.append(process.text)
    assert shown(secrets, "\n".join(output)) == []
    # Nothing to warn of: each has a login of its own, and the database is on this machine.
    assert "as the owner of everything" not in "\n".join(output)


@pytest.mark.slow
async def test_what_cannot_connect_says_so_without_the_secret(ledger: LedgerOnServers, tmp_path: Path) -> None:
    port = choose_free(1)[0]
    common = cli_environment(ledger, tmp_path) | {"LEDGER_LOG_LEVEL": "DEBUG", "LEDGER_HTTP_PORT": str(port)}
    name = str(urlsplit(ledger.database_url).username)
    wrong = common | {"LEDGER_DATABASE_URL": with_login(ledger.database_url, name, SENTINEL)}
    malformed = common | {"LEDGER_READER_DATABASE_URL": f"postgresql://ada:{SENTINEL}/{SENTINEL}@{LOOPBACK}/ledger"}
    kafka = common | {
        "LEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "LEDGER_KAFKA_USERNAME": "ada",
        "LEDGER_KAFKA_PASSWORD": SENTINEL,
    }
    misplaced = common | {"LEDGER_HTTP_PORT": SENTINEL, "LEDGER_DATABASE_TLS": SENTINEL}
    output: list[str] = []
    for environment, line, code in (
        (wrong, "status --json", 3),
        (wrong, "migrate", 3),
        (wrong, "up", 3),
        (malformed, "status", 2),
        (misplaced, "run http", 2),
        (kafka, "status --json", None),
    ):
        ended = await ledger_cli(*line.split(), environment=environment, folder=tmp_path)
        assert code in (None, ended.code), (line, ended.out, ended.err)
        assert ended.out + ended.err
        output += [ended.out, ended.err]
    stack = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "service.stack", "up"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=wrong | {"LEDGER_DATABASE_URL": f"postgresql://ada:{SENTINEL}/x@{LOOPBACK}/ledger"},
        cwd=ROOT,
    )
    output.append((await stack.communicate())[0].decode())
    assert stack.returncode != 0
    async with running("consumer", wrong) as consumer, running("projector", wrong) as projector:
        # A password that is changed there and not yet here ends no process.
        await consumer.until_said("password authentication failed")
        await projector.until_said("password authentication failed")
    assert consumer.text.count("as the owner of everything") == 1, consumer.text
    output += [consumer.text, projector.text]
    async with (
        running("http", wrong) as http,
        httpx.AsyncClient(base_url=f"http://{LOOPBACK}:{port}", timeout=30) as client,
    ):
        await http.until_said("Uvicorn running")
        for path in ("/balance/ada", "/health/ready", "/content/none"):
            answer = await client.get(path)
            assert answer.status_code == 503, answer.text
            output.append(answer.text + str(answer.headers))
        output.append(command_lines())
    output.append(http.text)
    assert shown([SENTINEL], "\n".join(output)) == []


async def test_a_terminal_shows_no_values_beside_a_traceback(tmp_path: Path) -> None:
    """A terminal gets errors for people, and the renderer that is usual there would print every variable."""
    leader, follower = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FAILING),
        env=kept | {"SECRET": SENTINEL, "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stderr=follower,
    )
    os.close(follower)
    text = b""
    with contextlib.suppress(OSError):  # what a terminal says at its end
        while data := await asyncio.to_thread(os.read, leader, 65_536):
            text += data
    os.close(leader)
    assert await process.wait() == 1
    assert "ZeroDivisionError" in text.decode()
    assert SENTINEL not in text.decode()


FAILING = """
import os, sys
from service.processes.lifecycle import run_process

async def serve(stop):
    database_url = os.environ["SECRET"]
    1 / 0

sys.exit(run_process("test", serve, log_level="INFO"))
"""


@pytest.mark.slow
async def test_the_local_stack_shows_none_of_the_passwords_that_it_chose(tmp_path: Path) -> None:
    with server_home() as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        environment = kept | {
            "LEDGER_HOME": str(home),
            "LEDGER_STACK": "local",
            "LEDGER_HTTP_PORT": "0",
            "LEDGER_LOG_LEVEL": "DEBUG",
            "LEDGER_APPS": "apps.example_app.operations:ExampleAppOperations",
            "PYTHONPATH": str(ROOT),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "service.cli", "up"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
        )
        up = Running(process)
        output: list[str] = []
        try:
            async with asyncio.timeout(120):
                while "ready http" not in up.text:
                    assert process.returncode is None, up.text
                    await asyncio.sleep(0.1)
            for line in COMMANDS:
                done = await ledger_cli(*line.split(), environment=environment, folder=tmp_path)
                assert (done.code == 0) or line.startswith("status"), (line, done.err)
                output += [done.out, done.err]
            output.append(command_lines())
            chosen = json.loads((home / "database-logins.json").read_text())
            owners = (home / "postgres" / "password").read_text()
            secrets = [*chosen.values(), owners]
            modes = {path.name: oct(path.stat().st_mode & 0o777) for path in home.glob("*.json")}
            assert (modes["database-logins.json"], modes["stack.json"]) == ("0o600", "0o600")
            # A child knows its own password, and neither the owner's nor another's.
            for child in psutil.Process(process.pid).children():
                if "run" in child.cmdline():
                    own = {password_of(value) for name, value in child.environ().items() if name.endswith("BASE_URL")}
                    kind = child.cmdline()[child.cmdline().index("run") + 1]
                    assert own == {chosen[login] for login in LOGINS_OF[kind]}
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            async with asyncio.timeout(60):
                await process.wait()
        output += [up.text, *(path.read_text(errors="replace") for path in home.rglob("*.log"))]
        assert len(output) > 5
    assert shown(secrets, "\n".join(output)) == []
