"""`python -m tests.nemesis.soak --hours 0.5 --rate 2000 [--json FILE] [--home DIR]`: a steady load, and flat memory.

Exit code 0 only if all holds; 1 if something does not; 2 if the run could not be made.
"""

import argparse
import asyncio
import contextlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from service.stack.ports import LOOPBACK, choose_free
from tests.nemesis.__main__ import add_common, run_in_home
from tests.nemesis.arena import PARTITIONS, Arena, ArenaError, Client
from tests.nemesis.full_audit import FullAudit
from tests.nemesis.memory import Growth
from tests.nemesis.operations import SHOP
from tests.nemesis.report import client_figures, client_rows, print_verdict
from tests.nemesis.run import FaultRun
from tests.nemesis.undertaker import Undertaker

WARM_UP_S: Final = 300.0
"""Until caches have their size (measured: a consumer's memory rises for five minutes at 2,000 commands/s, those of its
coldest partitions fill last). What grows afterwards is looked at."""

SAMPLE_EVERY_S: Final = 10.0
GROWTH_PERCENT_MAX: Final = 5.0
RATE_HELD_SHARE_MIN: Final = 0.95
"""Of the rate that is asked for: a soak at less shows less."""

GET_EVERY_S: Final = 0.1
GET_LIMIT_S: Final = 10.0
HTTP_START_LIMIT_S: Final = 60.0
COLD_OWNERS: Final = 4_000
CONSUMER: Final = "consumer-1"
PROJECTOR: Final = "projector-1"
HTTP: Final = "http"
OWN: Final = (CONSUMER, PROJECTOR, HTTP)
"""The ledger's own processes, whose memory must be flat."""


@dataclass(slots=True)
class SoakReport:
    """Filled as the run goes on."""

    hours: float
    rate: float
    lasted_s: float = 0.0
    load_per_s: float = 0.0
    standstill_s: float = 0.0
    rest_s: float = 0.0
    gets: int = 0
    gets_failed: int = 0
    growth: list[Growth] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    audit: FullAudit | None = None
    verify_says: str | None = "not asked"
    broke_off: str | None = None

    @property
    def objections(self) -> list[str]:
        """Why the run has failed; empty when all holds."""
        objections = [] if self.broke_off is None else [f"broken off: {self.broke_off}"]
        if self.load_per_s < self.rate * RATE_HELD_SHARE_MIN:
            objections.append(f"{self.load_per_s:,.0f} commands/s were held, {self.rate:,.0f} asked for")
        objections += [
            f"{growth.name} grew by {growth.percent:.1f}%: {growth.first_mb:.1f} to {growth.last_mb:.1f} MB"
            for growth in self.growth
            if growth.name in OWN and growth.percent >= GROWTH_PERCENT_MAX
        ]
        missing = set(OWN) - {growth.name for growth in self.growth}
        objections += [f"the memory of {name} was not measured: the run was too short" for name in sorted(missing)]
        objections += self.ended
        if self.gets_failed:
            objections.append(f"{self.gets_failed} of {self.gets} GETs failed")
        if self.audit is not None:
            objections += [*self.audit.violations, *self.audit.clients.violations]
        if self.audit is None or self.verify_says is not None:
            objections.append(f"ledger verify: {self.verify_says}")
        return objections

    @property
    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "holds": not self.objections,
            "objections": self.objections,
            "hours": self.hours,
            "lasted_s": round(self.lasted_s, 1),
            "rate_asked_per_s": self.rate,
            "load_held_per_s": round(self.load_per_s, 1),
            "longest_standstill_s": round(self.standstill_s, 2),
            "rest_s": round(self.rest_s, 1),
            "gets": self.gets,
            "gets_failed": self.gets_failed,
            "memory_rss_mb": {
                growth.name: {
                    "first_tenth": round(growth.first_mb, 1),
                    "last_tenth": round(growth.last_mb, 1),
                    "largest": round(growth.largest_mb, 1),
                    "growth_percent": round(growth.percent, 2),
                    "pss_first_tenth": round(growth.first_pss_mb, 1),
                    "pss_last_tenth": round(growth.last_pss_mb, 1),
                }
                for growth in self.growth
            },
            "clients": None if self.audit is None else client_figures(self.audit),
            "events": None if self.audit is None else dict(self.audit.outcomes),
            "verify": self.verify_says or "verified",
        }

    def print(self, console: Console) -> None:
        """For people."""
        memory = Table("process", "first tenth", "last tenth", "growth", "largest", "PSS at the end", title="RSS")
        for growth in self.growth:
            memory.add_row(
                growth.name,
                f"{growth.first_mb:,.1f} MB",
                f"{growth.last_mb:,.1f} MB",
                f"{growth.percent:+.1f}%",
                f"{growth.largest_mb:,.1f} MB",
                f"{growth.last_pss_mb:,.1f} MB",
            )
        console.print(memory)
        table = Table("what", "figure", title=f"a soak of {self.lasted_s / 60:.1f} minutes")
        rows = [
            ("load held", f"{self.load_per_s:,.0f} commands/s (asked: {self.rate:,.0f})"),
            ("longest standstill of a partition", f"{self.standstill_s:.1f} s"),
            ("GETs (failed)", f"{self.gets:,} ({self.gets_failed})"),
            *(client_rows(self.audit) if self.audit is not None else ()),
            ("ledger verify", self.verify_says or "verified"),
        ]
        for row in rows:
            table.add_row(*row)
        console.print(table)
        print_verdict(console, self.objections)


class SoakRun:
    """One run. `say` takes a line, `progress` a share between 0 and 1 and a few words."""

    def __init__(
        self,
        home: Path,
        hours: float,
        rate: float,
        say: Callable[[str], None],
        progress: Callable[[float, str], None],
    ) -> None:
        self._progress = progress
        self._say = say
        self._arena = Arena(home, clients_of(rate), (), say)
        self._report = SoakReport(hours, rate)
        [self._port] = choose_free(1)

    async def run(self) -> SoakReport:
        """The whole run. Raises StackError where the servers cannot be had."""
        arena, report = self._arena, self._report
        with Undertaker(arena.home):
            try:
                await arena.start((CONSUMER,), (PROJECTOR,), http_port=self._port)
                await self._until_http_answers()
                getting = asyncio.create_task(self._get())
                await self._soak()
                getting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await getting
                report.ended = [
                    f"{end.name} ended by itself ({end.code}) after {end.lived_s:.0f} s"
                    for process in arena.processes.values()
                    for end in process.unexpected_ends
                ]
                report.standstill_s = max(seen.standstill_s for seen in arena.observer.partitions)
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
                await arena.stop()
        return report

    async def _soak(self) -> None:
        arena, report = self._arena, self._report
        began = time.monotonic()
        lasts_s = report.hours * 3600
        warm_events, warm_at = 0, began
        while (age := time.monotonic() - began) < lasts_s:
            if age < WARM_UP_S:  # the rate counts from then on too
                warm_events, warm_at = arena.observer.events, time.monotonic()
            self._sample(time.monotonic() - began)
            own = ", ".join(f"{name} {arena.memory.latest_mb(name):.0f} MB" for name in OWN)
            rate = (arena.observer.events - warm_events) / max(time.monotonic() - warm_at, 1.0)
            what = "warm-up" if age < WARM_UP_S else f"{rate:,.0f} commands/s"
            self._progress(age / lasts_s, f"{what}; {own}")
            await asyncio.sleep(min(SAMPLE_EVERY_S, lasts_s - age))
        report.lasted_s = time.monotonic() - began
        report.load_per_s = (arena.observer.events - warm_events) / (time.monotonic() - warm_at)
        found = (arena.memory.growth(name, WARM_UP_S) for name in arena.memory.samples)
        report.growth = [growth for growth in found if growth is not None]

    def _sample(self, at_s: float) -> None:
        arena = self._arena
        for name in OWN:
            arena.memory.sample(name, arena.processes[name].pid, at_s)
        arena.memory.sample("Kafka", arena.servers.kafka.process.pid, at_s)
        arena.memory.sample("Postgres", arena.servers.postgres.process.pid, at_s, with_children=True)

    async def _until_http_answers(self) -> None:
        async with httpx.AsyncClient(base_url=self._url, timeout=GET_LIMIT_S) as client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HTTP_START_LIMIT_S):
                    while True:
                        with contextlib.suppress(httpx.TransportError):
                            if (await client.get("/health")).is_success:
                                return
                        await asyncio.sleep(GET_EVERY_S)
        raise ArenaError(f"the HTTP service does not answer within {HTTP_START_LIMIT_S:g} s")

    async def _get(self) -> None:
        chance = random.Random(1)
        async with httpx.AsyncClient(base_url=self._url, timeout=GET_LIMIT_S) as client:
            while True:
                owner = f"cold-{chance.randrange(COLD_OWNERS)}"
                for path in (f"/balance/{owner}", f"/ledger/{owner}/entries", "/health"):
                    self._report.gets += 1
                    try:
                        answer = await client.get(path)
                        failed = not answer.is_success
                    except httpx.TransportError:
                        failed = True
                    self._report.gets_failed += failed
                    await asyncio.sleep(GET_EVERY_S)

    @property
    def _url(self) -> str:
        return f"http://{LOOPBACK}:{self._port}"


def clients_of(rate: float) -> list[Client]:
    """Most only publish; some wait for outcomes."""
    shares = (("publishes", False, 0.45), ("waits", True, 0.05))
    apps = (("example", "example-app"), (SHOP, SHOP))
    return [
        Client(f"{what}-{name}", app, waits, rate * share, seed=1)
        for what, waits, share in shares
        for name, app in apps
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis.soak", description="A steady load for hours.")
    parser.add_argument("--hours", type=float, default=0.5, help="how long (0.5)")
    parser.add_argument("--rate", type=float, default=2_000.0, help="commands per second (2000)")
    parser.add_argument("--faults", action="store_true", help="a fault run of that length instead")
    parser.add_argument("--seed", type=int, default=1, help="of the faults' schedule (1)")
    add_common(parser)
    asked = parser.parse_args(arguments)
    if asked.faults:
        return run_in_home(
            asked,
            "soak",
            lambda home, say, progress: FaultRun(home, asked.seed, asked.hours * 60, asked.rate, say, progress).run(),
        )
    return run_in_home(
        asked, "soak", lambda home, say, progress: SoakRun(home, asked.hours, asked.rate, say, progress).run()
    )


if __name__ == "__main__":
    sys.exit(main())
