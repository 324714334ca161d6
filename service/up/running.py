"""The steps of `ledger up`, and the same backwards."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from importlib import import_module
from typing import Final

from ledger.broker.topics_sync import sync_topics
from ledger.event_store.connections import connect
from ledger.event_store.overview import read_overview
from ledger.event_store.protocol import Identity
from ledger.operations import Registry
from ledger.settings import Settings
from producers import LedgerError
from projections.balances.queries import BalanceReader
from projections.health import HealthReader
from projections.read_your_writes import AnsweredPositions, StaleReadError
from service.addresses import named_addresses
from service.database import prepare_database
from service.logins import LOGINS_OF, create_logins
from service.open_doors import whose_http, why_not_open
from service.stack import Addresses, RunningStack, Stack, lock_holder, resolve
from service.stack.own_logins import with_own_logins
from service.stack.ports import choose_free, holder, is_free
from service.stack.state import remember_running
from service.up.children import Child, database_environment
from service.up.demo import DEMO_APP, DemoOutcome, publish_demo
from service.up.readiness import NotReadyError, until_ready, until_serving
from service.up.watcher import ShownBalance, Watcher
from service.wiring import Wiring, holder_name

PROJECTED_WITHIN_S: Final = 30.0
"""How long the read model may take to contain the example app's commands."""

CHILDREN: Final = ("consumer", "projector", "http")
"""In the order of their start."""

STOP_ORDER: Final = ("http", "consumer", "projector")
"""Requests end first, then the batch in hand, then what is derived from it."""


class UpError(Exception):
    """The ledger cannot be started; the text says what happened, to what, and what to do."""


class LocalLedger:
    """Everything that one `ledger up` runs on this machine."""

    def __init__(self, settings: Settings, registry: Registry, watcher: Watcher) -> None:
        self._settings = settings
        self._registry = registry
        self._watcher = watcher
        self._stack: Stack | None = None
        self._children: dict[str, Child] = {}
        self._stop = asyncio.Event()
        self._log_folder = settings.home.resolve() / "log"

    async def run(self, *, demo: bool) -> None:
        """Start everything, serve until SIGINT or SIGTERM, stop everything.

        Raises:
            UpError, StackError, RecordMismatchError, LedgerError, BrokerUnavailableError: the start failed; what was
                started is stopped.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        starting = asyncio.ensure_future(self._start(demo))
        told_to_stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((starting, told_to_stop), return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                self._watcher.step("stopping in the middle of the start")
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                return
            await starting
            await told_to_stop
            self._watcher.step("stopping")
        finally:
            told_to_stop.cancel()
            await self._end()

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
            return
        self._watcher.note("told to stop a second time: the ledger's processes are killed (nothing committed is lost)")
        for child in self._children.values():
            child.kill()

    async def _start(self, demo: bool) -> None:
        port = self._choose_port()
        # Alembic takes most of a second to import: meanwhile the servers start.
        migrations = asyncio.ensure_future(asyncio.to_thread(import_module, "ledger.event_store.migrate"))
        addresses = await self._start_servers()
        if self._made_here:
            addresses = with_own_logins(self._settings.home, addresses)
        await migrations
        wiring = Wiring(self._settings, addresses, self._registry)
        self._watcher.step(f"processes: {', '.join(CHILDREN)} (logs in {self._log_folder})")
        url = await self._load_children(addresses, port)
        self._watcher.step("database: schema, read models")
        identity = await prepare_database(addresses.database_url, self._settings.partitions)
        self._watcher.note(f"ledger {identity.ledger_id}, {identity.partitions} partitions")
        if self._made_here:
            names = await create_logins(addresses)
            self._watcher.note(f"logins, one for each kind of process: {', '.join(names)}")
            # From here on other shells find them too.
            assert self._stack is not None
            remember_running(self._settings.home, RunningStack(self._stack.name, addresses))
        await self._say_whose_http(addresses)
        self._watcher.step("topics")
        await self._sync_topics(wiring, identity)
        self._watcher.step("taking the partitions over")
        for child in self._children.values():
            child.begin()
        try:
            await self._until_consumer_ready(wiring)
            halted = await until_serving(url, lambda: _problems(wiring))
        except NotReadyError as error:
            raise UpError(f"{error}\n{self._last_lines()}") from error
        for problem in halted:
            self._watcher.note(f"STANDS STILL, the others go on: {problem}")
        if demo and halted:
            self._watcher.note("the example app's commands are left out")
        elif demo:
            await self._show_demo(wiring)
        self._watcher.ready(url)

    def _choose_port(self) -> int:
        # Before anything heavy, and with the likeliest reason first.
        other = lock_holder(self._settings.home)
        if other is not None and other != os.getpid():
            raise UpError(
                f"a ledger runs already from {self._settings.home.resolve()} (process {other}). "
                "Use that one, stop it (Ctrl-C there, or `ledger down`), or set LEDGER_HOME to another folder."
            )
        port = self._settings.http_port
        if port == 0:
            return choose_free(1)[0]
        if not is_free(port):
            raise UpError(
                f"port {port} for HTTP is taken by {holder(port)}; stop that, or set LEDGER_HTTP_PORT to another port "
                "(0 chooses a free one)"
            )
        return port

    async def _say_whose_http(self, addresses: Addresses) -> None:
        keys, host = self._settings.http_keys, self._settings.http_host
        refusal = await why_not_open(addresses.database("reader"), keys, host, self._stop)
        if refusal is not None:
            raise UpError(refusal)
        self._watcher.note(await whose_http(addresses.database("reader"), keys, host))

    async def _start_servers(self) -> Addresses:
        settings = self._settings
        database = settings.database(settings.database_url)
        resolution = resolve(
            settings.stack,
            settings.kafka_bootstrap_servers,
            database,
            settings.home,
            purpose="run",
            kafka_security=settings.kafka_security(),
            brokers=settings.brokers,
        )
        self._watcher.step(f"servers: {resolution.stack.name} ({resolution.why})")
        addresses = await resolution.stack.start(self._watcher.note)
        self._stack = resolution.stack
        return addresses if self._made_here else named_addresses(settings) or addresses

    @property
    def _made_here(self) -> bool:
        """Whether the servers are ours, so that we make the logins too; on others' their owner does."""
        return self._stack is not None and self._stack.name != "external"

    async def _sync_topics(self, wiring: Wiring, identity: Identity) -> None:
        async with wiring.admin() as admin:
            report = await sync_topics(admin, wiring.wanted_topics(identity.partitions), wiring.topics)
        if report.created:
            self._watcher.note(f"created {', '.join(report.created)}")
        for wrong in report.wrong_size:
            self._watcher.note(f"REFUSED: {wrong}; delete it, then run `ledger topics sync`")
        for name in report.unregistered:
            self._watcher.note(f"not consumed: {name}, because no such app is registered")

    async def _load_children(self, addresses: Addresses, port: int) -> str:
        environment: dict[str, str] = {
            "LEDGER_HOME": str(self._settings.home.resolve()),
            "LEDGER_STACK": "external",
            "LEDGER_KAFKA_BOOTSTRAP_SERVERS": addresses.kafka_bootstrap_servers,
            "LEDGER_HTTP_PORT": str(port),
        }
        for name in CHILDREN:
            own = environment | database_environment(addresses, LOGINS_OF[name])
            self._children[name] = Child(name, own, self._log_folder, self._watcher.note)
            await self._children[name].load()
        return f"http://{self._settings.http_host}:{port}"

    async def _until_consumer_ready(self, wiring: Wiring) -> None:
        connection = await connect(wiring.addresses.database("reader"), role="ledger_reader", application="ledger up")

        async def missing() -> str | None:
            holders = [head.holder for head in (await read_overview(connection)).partitions]
            # A holder that was killed is still named: only what this start's own consumer claims shows that it works.
            if holder_name(self._children["consumer"].pid) not in holders:
                return "it has claimed no partition yet"
            unclaimed = holders.count(None)
            return f"{unclaimed} partitions are not claimed yet" if unclaimed else None

        try:
            await until_ready("the ledger consumer", missing)
        finally:
            connection.terminate()

    async def _show_demo(self, wiring: Wiring) -> None:
        self._watcher.step("the example app's commands, through Kafka")
        outcomes: list[DemoOutcome] = []
        try:
            async with wiring.client(DEMO_APP) as client:
                outcomes = await publish_demo(client)
        except LedgerError as error:
            raise UpError(f"the example app's commands were not decided: {error}\n{self._last_lines()}") from error
        self._watcher.outcomes(outcomes)
        self._watcher.step("balances, read back from the read model")
        try:
            self._watcher.balances(await _read_back(wiring, outcomes))
        except StaleReadError as error:
            raise UpError(f"the projection worker does not keep up: {error}\n{self._last_lines()}") from error

    async def _end(self) -> None:
        for name in STOP_ORDER:
            child = self._children.get(name)
            if child is not None:
                await child.stop()
                self._watcher.note(f"{name} has stopped")
        if self._stack is not None:
            await self._stack.stop(self._watcher.note)

    def _last_lines(self) -> str:
        return "\n".join(f"the end of {child.log_file}:\n{child.last_lines()}" for child in self._children.values())


async def _problems(wiring: Wiring) -> list[str]:
    """What is wrong, asked for directly: HTTP tells it to holders of API keys only."""
    pool = wiring.read_pool()
    await pool.start()
    try:
        async with wiring.admin() as admin:
            health = await HealthReader(pool, admin.partition_counts).read()
    finally:
        await pool.stop()
    parts = (health.kafka, health.postgres, health.ledger_consumer, health.projections)
    return [problem for part in parts for problem in part.problems]


async def _read_back(wiring: Wiring, outcomes: Sequence[DemoOutcome]) -> list[ShownBalance]:
    """What the read model says of the owners, not before it contains what became of their commands."""
    pool = wiring.read_pool()
    await pool.start()
    try:
        reader = BalanceReader(pool, AnsweredPositions(), PROJECTED_WITHIN_S)
        shown = []
        for owner_id in dict.fromkeys(outcome.event.owner_id for outcome in outcomes):
            positions = [outcome.event.position for outcome in outcomes if outcome.event.owner_id == owner_id]
            balances = await reader.of_owner(owner_id, positions)
            shown.append(ShownBalance(owner_id, balances.of().balance))
        return shown
    finally:
        await pool.stop()
