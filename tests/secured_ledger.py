"""A ledger on a broker that lets nobody do what they need not: each part is a principal of its own."""

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from ledger.broker.kafka_servers import KafkaServers
from ledger.event_store.postgres import PostgresEventStore
from ledger.messages.topics import Topics
from ledger.operations import load_registry
from ledger.settings import Settings
from producers import LedgerClient
from service.cli.app import app
from service.database import prepare_database
from service.stack import Addresses
from service.wiring import Wiring
from tests.cli_process import ROOT, Ended
from tests.secured_kafka import OPERATOR, SecuredKafka, password_of, running_secured_kafka
from tests.servers import fresh_database

PARTITIONS = 2
CLASSES = ("apps.example_app.operations:ExampleAppOperations", "tests.till_operations:TillOperations")
LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class SecuredLedger:
    """Topics and rights are set up; nothing runs."""

    kafka: SecuredKafka
    database_url: str
    home: Path
    synced: Ended
    """How `ledger topics sync --acls` ended that set them up."""

    @property
    def topics(self) -> Topics:
        return Topics()

    def as_user(self, user: str) -> KafkaServers:
        """The broker, as this user."""
        return self.kafka.as_user(user)

    def wiring(self, user: str, password: str | None = None) -> Wiring:
        """The parts of the ledger as production wires them, as this user."""
        settings = Settings(
            kafka_bootstrap_servers=self.kafka.address,
            kafka_security_protocol="SASL_SSL",
            kafka_username=user,
            kafka_password=SecretStr(password or password_of(user)),
            kafka_ca_file=self.kafka.ca_file,
            apps=CLASSES,
        )
        return Wiring(settings, Addresses(self.kafka.address, self.database_url), load_registry(CLASSES))

    def client(self, app: str, user: str | None = None) -> LedgerClient:
        """The app's client, logged in as itself unless told otherwise."""
        return LedgerClient(app, self.kafka.address, security=self.kafka.login(user or app))

    def environment(self, user: str = OPERATOR) -> dict[str, str]:
        """Settings of a process."""
        return cli_environment(self.kafka, self.database_url, self.home, user)

    async def cli(self, *arguments: str, user: str = OPERATOR, **settings: str) -> Ended:
        """`ledger ARGUMENTS` as this user; whatever it says, it says no password."""
        ended = await asyncio.to_thread(_cli_here, arguments, self.environment(user) | settings)
        assert "hush-" not in ended.out + ended.err
        return ended

    @contextmanager
    def process(self, user: str, *arguments: str) -> Iterator[Path]:
        """`ledger ARGUMENTS` as a process of its own, ended at the end. Its log, which holds no password, is given."""
        log_file = self.home / f"{'-'.join(arguments)}-{uuid.uuid4().hex}.log"
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "service.cli", *arguments, "--with-parent"],
                env=self.environment(user),
                cwd=ROOT,
                stdin=subprocess.PIPE,  # it ends with us, also when we are killed
                stdout=log,
                stderr=log,
            )
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            try:
                yield log_file
                assert process.poll() is None, log_file.read_text()
            finally:
                process.terminate()
                try:
                    process.wait(LIMIT_S)
                finally:
                    process.kill()
                    process.stdin.close()
        assert "hush-" not in log_file.read_text()

    async def balance(self, owner_id: str) -> int:
        """By the record itself."""
        store = PostgresEventStore(self.database_url, "test")
        try:
            events = [event for one in range(PARTITIONS) for event in await store.read_events(one, 0, 1_000_000)]
        finally:
            await store.stop()
        return sum(event.amount for event in events if event.owner_id == owner_id)


def cli_environment(kafka: SecuredKafka, database_url: str, home: Path, user: str) -> dict[str, str]:
    """Settings of a process that is this user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return (
        kept
        | kafka.environment(user)
        | {
            "LEDGER_HOME": str(home),
            "LEDGER_STACK": "external",
            "LEDGER_DATABASE_URL": database_url,
            "LEDGER_PARTITIONS": str(PARTITIONS),
            "LEDGER_APPS": ",".join(CLASSES),
            "PYTHONPATH": str(ROOT),
        }
    )


@contextmanager
def secured_ledger(server_url: str, home: Path) -> Iterator[SecuredLedger]:
    """A broker, a database, and what the operator does once."""
    with asyncio.Runner() as runner, running_secured_kafka() as kafka:
        stack = AsyncExitStack()
        database_url = runner.run(stack.enter_async_context(fresh_database(server_url)))
        try:
            runner.run(prepare_database(database_url, PARTITIONS))
            environment = cli_environment(kafka, database_url, home, OPERATOR)
            synced = _cli_here(("topics", "sync", "--acls", "--json"), environment)
            assert synced.code == 0, synced.err
            yield SecuredLedger(kafka, database_url, home, synced)
        finally:
            runner.run(stack.aclose())


def _cli_here(arguments: Sequence[str], environment: dict[str, str]) -> Ended:
    """The command line in this process: a process of its own takes seconds while others test beside us."""
    others: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("LEDGER_") and name not in environment
    }
    result = CliRunner().invoke(app, arguments, env={**others, **environment})
    return Ended(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="module")
def ledger(postgres_server_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredLedger]:
    """Shared by the tests of a module: each takes owners of its own, and puts back what it changes."""
    with secured_ledger(postgres_server_url, tmp_path_factory.mktemp("home")) as made:
        yield made


@asynccontextmanager
async def running(*parts: object) -> AsyncIterator[None]:
    """Ledger consumers and projection workers, until the end of the block."""
    tasks = [asyncio.create_task(part.run()) for part in parts]  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for part in parts:
            part.stop()  # type: ignore[attr-defined]
        await asyncio.wait_for(asyncio.gather(*tasks), LIMIT_S)


async def until(reached: Callable[[], bool]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(LIMIT_S):
        while not reached():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0.02)


def rights_in(ended: Ended, kind: str) -> set[tuple[str, str, str]]:
    """Who may do what on which name, as `ledger topics ... --acls --json` tells of one kind."""
    return {(acl["principal"], acl["operation"], acl["name"]) for acl in json.loads(ended.out)["acls"][kind]}
