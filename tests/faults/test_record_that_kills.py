"""A record that ends every process which decides it: real processes under a supervisor that starts them again."""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.event_store.protocol import TRYING_CLAIMS_MAX
from projections.registry import READ_MODELS
from projections.versions import install
from tests.cli_process import cli_environment, ledger_cli
from tests.deadly_operations import EXIT_CODE, KILLS, SURVIVES, DeadlyOperations
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

APP = DeadlyOperations.app
HALTED_WITHIN_S = 240.0
"""Seven deaths, each with a start and a session timeout of 6 s, on a busy machine."""


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url, classes=(DeadlyOperations,)) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


class Supervisor:
    """Starts `ledger run consumer` again whenever it ends."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self.environment = environment
        self.ends: Counter[int] = Counter()
        """How often it ended with which code."""
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Supervisor":
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def restart(self) -> None:
        """End it as a rolling restart would; the next one has the environment of now."""
        assert self._process is not None
        self._process.terminate()

    async def _run(self) -> None:
        while True:
            with (self._folder / "consumer.log").open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", "service.cli", "run", "consumer"),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self.environment,
                    cwd=self._folder,
                )
            self.ends[await self._process.wait()] += 1


async def until(ledger: LedgerOnServers, query: str) -> None:
    """Wait until it answers true, for as long as many deaths take."""
    async with asyncio.timeout(HALTED_WITHIN_S):
        while not await ledger.pool.fetchval(query):  # noqa: ASYNC110 - Postgres does not tell
            await asyncio.sleep(0.2)


@contextlib.asynccontextmanager
async def halted_by_a_record(ledger: LedgerOnServers, home: Path) -> AsyncIterator[Supervisor]:
    """Partition of ada halted at her second command, everybody else served."""
    environment = cli_environment(ledger, home) | {"LEDGER_APPS": "tests.deadly_operations:DeadlyOperations"}
    partition = ledger.partition("ada")
    other = next(f"o{n}" for n in range(99) if ledger.partition(f"o{n}") > partition)
    async with Supervisor(environment, home) as supervisor:
        await ledger.send(
            command("ada", "CREDIT_ADD", 1, app=APP),
            command("ada", "FLY", KILLS, app=APP),
            command("ada", "CREDIT_ADD", 2, app=APP),
        )
        # On a partition behind that one, and sent while the processes die: it is not held up until the halt.
        await until(ledger, "SELECT count(*) > 0 FROM ledger.partition_head WHERE trying_claims > 0")
        await ledger.send(command(other, "CREDIT_ADD", 1, app=APP))
        await until(ledger, f"SELECT count(*) = 1 FROM ledger.event WHERE owner_id = '{other}'")
        assert await ledger.pool.fetchval("SELECT count(halted_because) FROM ledger.partition_head") == 0
        await until(ledger, "SELECT count(halted_because) > 0 FROM ledger.partition_head")
        row = await ledger.pool.fetchrow("SELECT * FROM ledger.partition_head WHERE halted_because IS NOT NULL")
        assert row is not None
        assert (row["partition"], row["halted_record"]) == (partition, f"{APP}:{partition}:1")
        assert row["trying_claims"] == TRYING_CLAIMS_MAX <= supervisor.ends[EXIT_CODE]
        assert supervisor.ends.keys() == {EXIT_CODE}
        await ledger.send(command(other, "CREDIT_ADD", 1, app=APP))
        await ledger.until("SELECT count(*) FROM ledger.event WHERE owner_id = $1", 2, other)
        deaths = supervisor.ends[EXIT_CODE]
        yield supervisor
        assert supervisor.ends[EXIT_CODE] == deaths
        await ledger.until_published()
    verified = await ledger_cli("verify", environment=environment)
    assert verified.code == 0, verified.out + verified.err


async def test_a_record_that_kills_each_process_is_put_into_quarantine(ledger: LedgerOnServers, tmp_path: Path) -> None:
    async with halted_by_a_record(ledger, tmp_path) as supervisor:
        record = f"{APP}:{ledger.partition('ada')}:1"
        done = await ledger_cli(
            *("recover", "record", record, "--reason", "it kills us", "--yes"), environment=supervisor.environment
        )
        assert done.code == 0, done.err
        await ledger.until_events(4)
        row = await ledger.pool.fetchrow("SELECT reason, detail, status FROM ledger.quarantine")
        assert row is not None
        assert (row["reason"], row["status"], "it kills us" in row["detail"]) == ("SET_ASIDE", "waiting", True)


async def test_a_record_that_kills_each_process_is_decided_by_a_version_that_survives_it(
    ledger: LedgerOnServers, tmp_path: Path
) -> None:
    async with halted_by_a_record(ledger, tmp_path) as supervisor:
        supervisor.environment |= {SURVIVES: "1"}
        partition = ledger.partition("ada")
        # A version alone does not end the halt: nobody has said that it can decide the record.
        supervisor.restart()
        epoch = "SELECT epoch > $2 AND halted_because IS NOT NULL FROM ledger.partition_head WHERE partition = $1"
        before = await ledger.pool.fetchval("SELECT epoch FROM ledger.partition_head WHERE partition = $1", partition)
        await ledger.until(epoch, True, partition, before)
        assert (supervisor.ends[0], supervisor.ends.total()) == (1, supervisor.ends[EXIT_CODE] + 1)
        done = await ledger_cli(
            *("recover", "partition", str(partition), "--reason", "version 2", "--yes"),
            environment=supervisor.environment,
        )
        assert done.code == 0, done.err
        await ledger.until_events(5)
        assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.quarantine") == 0
