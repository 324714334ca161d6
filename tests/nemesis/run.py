"""A fault run from its begin to its verdict."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.nemesis.arena import PARTITIONS, Arena, ArenaError, Client
from tests.nemesis.nemesis import Nemesis
from tests.nemesis.operations import SHOP
from tests.nemesis.report import FaultReport, Recovery
from tests.nemesis.schedule import CONSUMERS, PROJECTORS, PUBLISHERS, Fault, Kind, Phase, minimums, plan
from tests.nemesis.undertaker import Undertaker

CONSUMER_WITHIN_S: Final = 10.0
"""After kill -9 of a consumer its partitions are processed again within this."""

SERVER_WITHIN_S: Final = 15.0
"""After the return of Kafka or Postgres every partition is decided again within this."""

MEASURE_LIMIT_S: Final = 60.0
"""How long a recovery is watched before it counts as never."""

SAMPLE_EVERY_S: Final = 10.0
AFTER_ROLLING_S: Final = 3.0
"""How long the new operation is used, at least, before the next fault."""


class FaultRun:
    """One run. `say` takes a line, `progress` a share between 0 and 1 and a few words."""

    def __init__(
        self,
        home: Path,
        seed: int,
        minutes: float,
        rate: float,
        say: Callable[[str], None],
        progress: Callable[[float, str], None],
    ) -> None:
        self._seed = seed
        self._minutes = minutes
        self._say = say
        self._progress = progress
        self._arena = Arena(home, clients_of(seed, rate), (*CONSUMERS, *PROJECTORS, *PUBLISHERS), say)
        self._random = Random(f"poison:{seed}")
        self._nemesis = Nemesis(
            self._arena.servers,
            self._arena.processes,
            lambda: self._arena.send_poison(self._random),
            self._arena.roll,
            say,
        )
        self._report = FaultReport(seed=seed, minutes=minutes, rate=rate, minimums=minimums(minutes))

    async def run(self) -> FaultReport:
        """The whole run. What breaks a promise is in the report; raises StackError where the servers cannot be had."""
        arena, report = self._arena, self._report
        report.disk_left_out = arena.servers.mount_disk()
        with Undertaker(arena.home):
            try:
                await arena.start(CONSUMERS, PROJECTORS)
                sampling = asyncio.create_task(self._sample())
                began = time.monotonic()
                decided_before = arena.observer.events
                try:
                    await self._phases(plan(self._seed, self._minutes, disk_can_be_filled=not report.disk_left_out))
                finally:
                    sampling.cancel()
                report.lasted_s = time.monotonic() - began
                report.load_per_s = (arena.observer.events - decided_before) / report.lasted_s
                self._progress(1.0, "coming to rest")
                report.rest_s = await arena.come_to_rest()
                report.audit = await arena.audit(
                    lambda partitions: self._progress(1.0, f"audit: {partitions} of {PARTITIONS} partitions")
                )
                self._progress(1.0, "ledger verify")
                report.verify_says = await arena.verify()
            except ArenaError as error:
                report.broke_off = str(error)
            finally:
                self._take_figures()
                await arena.stop()
                arena.servers.unmount_disk(keep=bool(report.objections))
        return report

    async def _phases(self, phases: Sequence[Phase]) -> None:
        for number, phase in enumerate(phases):
            what = f"{phase.measured}" if phase.measured else f"storm of {len(phase.storm)} faults"
            self._progress(number / len(phases), what)
            if phase.measured is None:
                await self._nemesis.storm(phase)
            else:
                calm_s = await self._arena.until_calm()
                self._report.calm_s.append(calm_s)
                await self._measured(phase.measured)

    async def _measured(self, fault: Fault) -> None:
        arena = self._arena
        partitions = await arena.held_by(fault.target) if fault.kind is Kind.KILL else list(range(PARTITIONS))
        if not await self._nemesis.do(fault):
            return
        if fault.kind is Kind.ROLLING_RESTART:
            await asyncio.sleep(AFTER_ROLLING_S)
            return
        # A kill acts at once; the servers' faults are over when the server answers again.
        done = self._nemesis.done[-1]
        since_s = done.began_s if fault.kind is Kind.KILL else done.ended_s
        took = await arena.observer.decided_again(partitions, since_s, MEASURE_LIMIT_S)
        limit_s = CONSUMER_WITHIN_S if fault.kind is Kind.KILL else SERVER_WITHIN_S
        recovery = Recovery(fault.kind, limit_s, tuple(took.values()))
        self._report.recoveries.append(recovery)
        self._say(f"  goes on after {recovery.words}")
        if not recovery.kept:
            late = [partition for partition, seconds in took.items() if seconds is None or seconds > limit_s]
            for line in await arena.heads(late):
                self._say(f"    {line}")

    async def _sample(self) -> None:
        arena = self._arena
        while True:
            for name, process in arena.processes.items():
                arena.memory.sample(name, process.pid, time.monotonic())
            arena.memory.sample("Kafka", arena.servers.kafka.process.pid, time.monotonic())
            pid = arena.servers.postgres.process.pid
            arena.memory.sample("Postgres", pid, time.monotonic(), with_children=True)
            await asyncio.sleep(SAMPLE_EVERY_S)

    def _take_figures(self) -> None:
        arena, report = self._arena, self._report
        report.done = [done.fault for done in self._nemesis.done]
        report.left_out = list(self._nemesis.left_out)
        report.largest_mb = {name: arena.memory.largest_mb(name) for name in arena.memory.samples}
        report.unexpected_ends = [end for process in arena.processes.values() for end in process.unexpected_ends]
        report.forced_stops = sum(process.forced_stops for process in arena.processes.values())
        if hasattr(arena, "observer"):
            report.standstill_s = max(seen.standstill_s for seen in arena.observer.partitions)


def clients_of(seed: int, rate: float) -> list[Client]:
    """Four publishers that share the rate: of each of two apps one that waits for outcomes, and one that does not."""
    apps = {"example": "example-app", "shop": SHOP}
    clients = []
    for name in PUBLISHERS:
        what, app = name.split("-")
        waits = what == "waits"
        clients.append(Client(name, apps[app], waits, rate * (0.2 if waits else 0.3), seed))
    return clients
