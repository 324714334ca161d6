"""A whole ledger with its clients for one run: servers, ledger processes, publishers, a prober, an observer."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import asyncpg

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import BrokerUnavailableError
from ledger.messages.topics import Topics
from service.wiring import holder_name
from tests.nemesis.full_audit import APPS, FullAudit, audit_everything
from tests.nemesis.history import HistoryWriter
from tests.nemesis.kept import Kept
from tests.nemesis.memory import MemorySampler
from tests.nemesis.observer import EventsObserver
from tests.nemesis.operations import FIRST_VERSION, SECOND_VERSION
from tests.nemesis.poison import poison_history, send_poison
from tests.nemesis.prober import Prober
from tests.nemesis.processes import SupervisedProcess
from tests.nemesis.publisher import PublisherSettings
from tests.nemesis.schedule import CONSUMERS, PROJECTORS
from tests.nemesis.servers import Servers

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 12
REST_LIMIT_S: Final = 180.0
"""How long everything may take to come to rest once nothing disturbs it any more."""

CALM_LIMIT_S: Final = 90.0
"""How long it may take until every partition is decided again after a storm, before a fault is measured."""

CALM_AGE_S: Final = 3.0
"""A partition is calm when an event was decided this recently: the prober asks each twice a second."""

SETUP_LIMIT_S: Final = 120.0
LOOK_PAUSE_S: Final = 0.1
_EXAMPLE_APP: Final = "apps.example_app.operations:ExampleAppOperations"


class ArenaError(Exception):
    """The run cannot go on; the text says why."""


@dataclass(frozen=True, slots=True)
class Client:
    """A publisher process: as which app, whether it waits for outcomes, how many commands per second."""

    name: str
    app: str
    waits: bool
    rate: float
    seed: int


class Arena:
    """What runs and where."""

    def __init__(self, home: Path, clients: Sequence[Client], seats: Sequence[str], say: Callable[[str], None]) -> None:
        """`seats` are the processes that reach the servers through proxies of their own; the others go straight."""
        self.home = home
        self.topics = Topics()
        self.say = say
        self.servers = Servers(home, seats, say)
        self.processes: dict[str, SupervisedProcess] = {}
        self.memory = MemorySampler()
        self.observer: EventsObserver
        self._clients = clients
        self._seats = frozenset(seats)
        self._new_operation = home / "new-operation"
        self._tasks: list[asyncio.Task[None]] = []
        self._folder = home / "processes"

    # ---- beginning ----

    async def start(self, consumers: Sequence[str], projectors: Sequence[str], http_port: int | None = None) -> None:
        """Everything, until events are decided on every partition."""
        self._folder.mkdir()
        (self.home / "history").mkdir()
        await self.servers.start()
        for arguments in (("migrate",), ("topics", "sync")):
            await self._ledger(*arguments)
        for name in (*consumers, *projectors):
            part = "consumer" if name in consumers else "projector"
            command = [sys.executable, "-m", "service.cli", "run", part, "--with-parent"]
            self._add(name, command, self._environment(name, FIRST_VERSION))
        if http_port is not None:
            command = [sys.executable, "-m", "service.cli", "run", "http", "--port", str(http_port), "--with-parent"]
            self._add("http", command, self._environment("http", FIRST_VERSION))
        for client in self._clients:
            file = self.home / f"{client.name}.settings.json"
            self._settings(client).save(file)
            command = [sys.executable, "-m", "tests.nemesis.publisher", str(file)]
            self._add(client.name, command, self._environment(client.name, FIRST_VERSION))
        ledgers = [self.processes[name] for name in (*consumers, *projectors)]
        await asyncio.gather(*(process.start() for process in ledgers))
        self.observer = EventsObserver(self.servers.kafka_address, self.topics.events, PARTITIONS)
        self._background(self.observer.run())
        prober = Prober(self.servers.kafka_address, PARTITIONS, self.home / "history" / "probe.jsonl")
        self._prober = self._background(prober.run())
        await self.until_calm()
        self.observer.count_standstills()
        others = [process for process in self.processes.values() if process not in ledgers]
        await asyncio.gather(*(process.start() for process in others))

    # ---- what the nemesis asks for ----

    async def send_poison(self, random: Random) -> int:
        """Some messages that are no commands; how many Kafka has."""
        path = poison_history(self.home)
        with HistoryWriter(path, path.stem, 1) as history:
            return await send_poison(self.servers.kafka_address, self.topics, tuple(APPS), PARTITIONS, random, history)

    async def roll(self) -> None:
        """Restart the consumers one by one with the second version of the shop's operations; then the shop uses it."""
        for name in CONSUMERS:
            process = self.processes[name]
            process.environment = self._environment(name, SECOND_VERSION)
            await process.restart()
            await self.until_calm()
        self._new_operation.touch()

    async def held_by(self, name: str) -> list[int]:
        """The partitions that a consumer holds now."""
        connection = await asyncpg.connect(self.servers.postgres_url)
        try:
            rows = await connection.fetch(
                "SELECT partition FROM ledger.partition_head WHERE holder = $1", holder_name(self.processes[name].pid)
            )
        finally:
            connection.terminate()
        return [row["partition"] for row in rows]

    async def heads(self, partitions: Sequence[int]) -> list[str]:
        """How these partitions stand, for whoever wants to know why they do not go on."""
        try:
            connection = await asyncpg.connect(self.servers.postgres_url)
        except (OSError, asyncpg.PostgresError) as error:
            return [f"Postgres: {error}"]
        try:
            rows = await connection.fetch(
                "SELECT * FROM ledger.partition_head WHERE partition = ANY($1) ORDER BY partition", partitions
            )
        finally:
            connection.terminate()
        holders = {holder_name(process.pid): name for name, process in self.processes.items() if process.pid}
        return [
            f"{row['partition']}: held by {holders.get(row['holder'], row['holder'])} at epoch {row['epoch']}, "
            f"sequence {row['sequence']}, published {row['published_sequence']}, seen "
            f"{self.observer.partitions[row['partition']].sequence}, consumed {row['consumed']}, "
            f"claimed {row['claimed_at']:%T}, halted {row['halted_because']}"
            for row in rows
        ]

    async def until_calm(self) -> float:
        """Return when all processes run and every partition is decided; how long that took. Raises ArenaError."""
        begin = time.monotonic()
        while time.monotonic() - begin < CALM_LIMIT_S:
            waiting = self._not_calm()
            if not waiting and (not self.processes or await self._every_consumer_holds()):
                return time.monotonic() - begin
            await asyncio.sleep(LOOK_PAUSE_S)
        for line in await self.heads(range(PARTITIONS)):
            self.say(f"    {line}")
        raise ArenaError(f"it does not calm down within {CALM_LIMIT_S:g} s: {self._not_calm()}")

    def _not_calm(self) -> list[str]:
        now = time.monotonic()
        waiting = [name for name, process in self.processes.items() if process.starts and process.pid is None]
        for number, seen in enumerate(self.observer.partitions):
            if not seen.sequence or now - seen.seen_at_s > CALM_AGE_S:
                waiting.append(f"partition {number}, silent for {now - seen.seen_at_s:.1f} s")
        return waiting

    async def _every_consumer_holds(self) -> bool:
        try:
            held = [await self.held_by(name) for name in self.processes if name in CONSUMERS]
        except (OSError, asyncpg.PostgresError):
            return False
        return all(held)

    # ---- ending ----

    async def come_to_rest(self) -> float:
        """Stop the clients, let everything be decided, published and shown, stop the ledger; how long the rest took.

        Raises:
            ArenaError: it does not come to rest.
        """
        clients = [process for name, process in self.processes.items() if name not in (*CONSUMERS, *PROJECTORS)]
        await asyncio.gather(*(process.stop() for process in clients))
        self.observer.stop_counting_standstills()
        self._prober.cancel()
        await asyncio.wait({self._prober})
        begin = time.monotonic()
        unfinished = ["never asked"]
        while time.monotonic() - begin < REST_LIMIT_S:
            async with self.kept() as kept:
                unfinished = await kept.unfinished(APPS, PARTITIONS)
            if not unfinished:
                break
            await asyncio.sleep(LOOK_PAUSE_S)
        else:
            raise ArenaError(f"it does not come to rest within {REST_LIMIT_S:g} s: {'; '.join(unfinished[:8])}")
        took_s = time.monotonic() - begin
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        return took_s

    async def audit(self, progress: Callable[[int], None]) -> FullAudit:
        """Compare everything with everything."""
        histories = sorted((self.home / "history").glob("*.jsonl"))
        async with self.kept() as kept:
            return await audit_everything(kept, PARTITIONS, histories, progress)

    async def verify(self) -> str | None:
        """`ledger verify`: None when all is well, otherwise what it says."""
        try:
            await self._ledger("verify", limit_s=3_600.0)
        except ArenaError as error:
            return str(error)
        return None

    async def stop(self) -> None:
        """Everything that still runs."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        await self.servers.stop()

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[Kept]:
        """What lies in Kafka and Postgres."""
        connection = await asyncpg.connect(self.servers.postgres_url)
        reader = KafkaRecordReader(self.servers.kafka_address, client_id="fault-run-audit")
        try:
            await reader.start()
            yield Kept(connection, reader, self.topics)
        except BrokerUnavailableError as error:
            raise ArenaError(f"Kafka cannot be read: {error}") from error
        finally:
            await reader.stop()
            connection.terminate()

    # ---- parts ----

    def _settings(self, client: Client) -> PublisherSettings:
        return PublisherSettings(
            name=client.name,
            app=client.app,
            waits=client.waits,
            rate=client.rate,
            kafka=self._kafka_of(client.name),
            partitions=PARTITIONS,
            history=str(self.home / "history" / f"{client.name}.jsonl"),
            new_operation=str(self._new_operation),
            seed=client.seed,
        )

    def _kafka_of(self, name: str) -> str:
        return self.servers.kafka_address_of(name) if name in self._seats else self.servers.kafka_address

    def _background(self, work: "asyncio.Future[None] | object") -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.append(task)
        return task

    def _add(self, name: str, command: Sequence[str], environment: dict[str, str]) -> None:
        self.processes[name] = SupervisedProcess(name, command, environment, self._folder)

    def _environment(self, name: str, shop: str) -> dict[str, str]:
        servers = self.servers
        database = servers.postgres_url_of(name) if name in self._seats else servers.postgres_url
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
        return kept | {
            "LEDGER_HOME": str(self.home / "ledger"),
            "LEDGER_STACK": "external",
            "LEDGER_KAFKA_BOOTSTRAP_SERVERS": self._kafka_of(name),
            "LEDGER_DATABASE_URL": database,
            "LEDGER_PARTITIONS": str(PARTITIONS),
            "LEDGER_APPS": f"{_EXAMPLE_APP},{shop}",
            "PYTHONPATH": str(ROOT),
        }

    async def _ledger(self, *arguments: str, limit_s: float = SETUP_LIMIT_S) -> None:
        """Run a command of the ledger. Raises ArenaError with what it said."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "service.cli",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment("ledger", SECOND_VERSION),
        )
        try:
            out, _ = await asyncio.wait_for(process.communicate(), limit_s)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            raise ArenaError(f"`ledger {' '.join(arguments)}` ended with {process.returncode}: {out.decode()}")
