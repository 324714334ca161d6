"""Does the faults of a schedule to the processes and servers of a run."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import asyncpg

from tests.nemesis.processes import SupervisedProcess
from tests.nemesis.schedule import KAFKA, Fault, Kind, Phase
from tests.nemesis.servers import Servers
from tests.nemesis.tcp_proxy import Direction, TcpProxy

TARGET_LIMIT_S: Final = 6.0
"""How long a fault waits for its moment: a process to run, a transaction, a COMMIT. Then it is left out."""

STORM_END_LIMIT_S: Final = 150.0
"""How long the faults of a storm may take to end; it is their own waits that are limited."""

DELAY_S: Final = 0.15
LOOK_PAUSE_S: Final = 0.01
_TERMINATE: Final = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE client_port = ANY($1) AND xact_start IS NOT NULL AND state <> 'idle' LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was done, when it began and ended (seconds since 1970)."""

    fault: Fault
    began_s: float
    ended_s: float


class Nemesis:
    """Keeps book of what it did and of what it had to leave out."""

    def __init__(
        self,
        servers: Servers,
        processes: Mapping[str, SupervisedProcess],
        send_poison: Callable[[], Awaitable[int]],
        roll: Callable[[], Awaitable[None]],
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            send_poison: sends some unreadable messages; how many Kafka has.
            roll: restarts the consumers one by one with a new version of an app's operations.
            say: takes a line for whoever watches.
        """
        self._servers = servers
        self._processes = processes
        self._send_poison = send_poison
        self._roll = roll
        self._say = say
        self.done: list[Done] = []
        self.left_out: list[Fault] = []

    async def storm(self, phase: Phase) -> None:
        """The faults of a storm, each at its time, whatever the others do. Returns when all have ended."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        under_way: list[asyncio.Task[bool]] = []
        for timed in phase.storm:
            await asyncio.sleep(max(0.0, begin + timed.at_s - loop.time()))
            under_way.append(asyncio.create_task(self.do(timed.fault), name=str(timed.fault)))
        await asyncio.sleep(max(0.0, begin + phase.storm_s - loop.time()))
        if under_way:
            _, still = await asyncio.wait(under_way, timeout=STORM_END_LIMIT_S)
            assert not still, f"faults that do not end: {[task.get_name() for task in still]}"
            for task in under_way:
                task.result()

    async def do(self, fault: Fault) -> bool:
        """One fault, to its end; whether it could be done."""
        began_s = time.time()
        self._say(str(fault))
        did = await self._do(fault)
        if did:
            self.done.append(Done(fault, began_s, time.time()))
        else:
            self.left_out.append(fault)
        return did

    async def _do(self, fault: Fault) -> bool:
        match fault.kind:
            case Kind.KILL:
                return await self._when_it_runs(self._processes[fault.target].kill)
            case Kind.FREEZE:
                return await self._freeze(fault)
            case Kind.KAFKA_KILL:
                await self._servers.kill_kafka(fault.lasts_s)
            case Kind.POSTGRES_QUIT:
                await self._servers.quit_postgres(fault.lasts_s)
            case Kind.DISK_FULL:
                await self._servers.fill_disk(fault.lasts_s)
            case Kind.TERMINATE:
                return await self._terminate(fault)
            case Kind.CUT_AFTER_COMMIT:
                return await self._proxy(fault).cut_after_commit(TARGET_LIMIT_S)
            case Kind.CUT:
                return await self._when_it_runs(lambda: self._proxy(fault).cut() > 0)
            case Kind.BLOCK:
                await self._block(fault)
            case Kind.DELAY:
                await self._delay(fault)
            case Kind.POISON:
                return await self._send_poison() > 0
            case Kind.ROLLING_RESTART:
                await self._roll()
        return True

    async def _when_it_runs(self, act: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + TARGET_LIMIT_S
        while not act():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(LOOK_PAUSE_S)
        return True

    async def _freeze(self, fault: Fault) -> bool:
        process = self._processes[fault.target]
        if not await self._when_it_runs(process.freeze):
            return False
        frozen = process.pid
        await asyncio.sleep(fault.lasts_s)
        process.thaw()
        return process.pid == frozen  # otherwise it was killed meanwhile, and was not frozen past its session

    async def _terminate(self, fault: Fault) -> bool:
        deadline = time.monotonic() + TARGET_LIMIT_S
        try:
            connection = await asyncpg.connect(self._servers.postgres_url, timeout=TARGET_LIMIT_S)
        except (OSError, TimeoutError, asyncpg.PostgresError):
            return False
        try:
            while time.monotonic() < deadline:
                ports = self._proxy(fault).upstream_ports
                if await connection.fetchval(_TERMINATE, ports, timeout=TARGET_LIMIT_S):
                    return True
                await asyncio.sleep(LOOK_PAUSE_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pass  # the server itself is being ended
        finally:
            connection.terminate()
        return False

    async def _block(self, fault: Fault) -> None:
        proxy = self._proxy(fault)
        direction = Direction.TO_SERVER if fault.to_server else Direction.TO_CLIENT
        proxy.block(direction)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            proxy.unblock(direction)

    async def _delay(self, fault: Fault) -> None:
        proxy = self._proxy(fault)
        proxy.delay_s = DELAY_S
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            proxy.delay_s = 0.0

    def _proxy(self, fault: Fault) -> TcpProxy:
        return (self._servers.kafka_proxies if fault.link == KAFKA else self._servers.postgres_proxies)[fault.target]
