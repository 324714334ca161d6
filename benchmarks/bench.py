"""What is measured in which order."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Final

from rich.console import Console

from benchmarks.backlog import measure_backlog
from benchmarks.baselines import measure_baselines
from benchmarks.catch_up import measure_catch_up
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import FreshLedger, fresh_ledger
from benchmarks.history import PrintedProgress, fill_history
from benchmarks.http import measure_ancestor, measure_http
from benchmarks.kept_history import kept_history
from benchmarks.live import OWNERS, measure_live
from benchmarks.profiling import Profiler
from benchmarks.rebuild import measure_rebuild
from benchmarks.scaling import PROCESSES, measure_scaling
from benchmarks.servers import Say, Servers
from benchmarks.sizes import Backlog, Sizes

PARTS: Final = (
    *("backlog_uniform", "backlog_zipf", "hot_owner", "history", "catch_up", "rebuild"),
    *("baselines", "live", "http", "ancestor", "scaling", "idle"),
)

_BACKLOGS: Final = frozenset({"backlog_uniform", "backlog_zipf", "hot_owner", "history", "catch_up", "scaling"})


class Bench:
    """One benchmark on running servers."""

    def __init__(
        self,
        servers: Servers,
        sizes: Sizes,
        parts: frozenset[str],
        figures: Figures,
        console: Console,
        say: Say,
        profiler: Profiler | None,
        *,
        keep: bool,
    ) -> None:
        self._servers = servers
        self._sizes = sizes
        self._parts = parts
        self._figures = figures
        self._console = console
        self._say = say
        self._profiler = profiler
        self._keep = keep
        self.failures: list[str] = []
        """What could not be measured, and why."""

    async def measure(self) -> None:
        """Everything that was asked for, into the figures; what fails is told and kept in `failures`."""
        sizes, parts = self._sizes, self._parts
        async with AsyncExitStack() as stack:
            history = None
            with self._kept_going("history"):
                history = await stack.enter_async_context(self._history())
            if parts & _BACKLOGS:
                with self._kept_going("warm-up"):
                    await self._warm_up()
            for run in range(sizes.runs):
                # Everything once, then everything again: a machine that slows down for a while slows down all alike.
                await self._one_run(run, history)
            if "live" in parts:
                with self._kept_going("live"):
                    async with fresh_ledger(self._servers) as ledger:
                        await self._live(ledger, sizes.live_rates_per_s)
                if history is not None:
                    with self._kept_going(f"live_{sizes.at_history}"):
                        owners = sizes.history_owners or OWNERS
                        await self._live(history, (1_000,), owners=owners, suffix=f"_{sizes.at_history}")
            if "rebuild" in parts:
                with self._kept_going("rebuild"):
                    await self._rebuild(history)
        if "http" in parts:
            self._tell(f"HTTP, {sizes.runs} runs of {sizes.http_s:g} s for each kind of request")
            with self._kept_going("http"):
                async with fresh_ledger(self._servers) as ledger:
                    await measure_http(ledger, sizes, self._figures, self._profiler)
        if "ancestor" in parts:
            self._tell(f"the ancestor's endpoint, {sizes.runs} runs of {sizes.http_s:g} s for each kind of request")
            with self._kept_going("ancestor"):
                await measure_ancestor(self._servers, sizes, self._figures)

    @contextmanager
    def _kept_going(self, part: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is: it must not take with it what an hour has measured
            self.failures.append(f"{part}: {type(error).__name__}: {error}")
            self._console.print_exception()

    @asynccontextmanager
    async def _history(self) -> AsyncIterator[FreshLedger | None]:
        """The large ledger, filled once, if it is asked for."""
        sizes = self._sizes
        if "history" not in self._parts:
            yield None
            return
        if sizes.history_events is None or sizes.history_owners is None:
            self._tell(f"{sizes.name} sizes leave the large ledger out (--history-events gives it a size)")
            yield None
            return
        events, owners = sizes.history_events, sizes.history_owners
        if self._keep:
            self._tell(f"a ledger with {events:,} events of {owners:,} owners, kept for later")
            async with kept_history(self._servers, events, owners, PrintedProgress(self._say)) as ledger:
                yield ledger
            return
        async with self._filled(events, owners) as ledger:
            yield ledger

    @asynccontextmanager
    async def _filled(self, events: int, owners: int) -> AsyncIterator[FreshLedger]:
        self._tell(f"filling a ledger with {events:,} events of {owners:,} owners")
        async with fresh_ledger(self._servers) as ledger:
            await fill_history(ledger, events, owners, PrintedProgress(self._say))
            yield ledger

    async def _warm_up(self) -> None:
        count = self._sizes.warm_up_commands
        self._tell(f"warm-up, {count:,} commands")
        sizes = replace(self._sizes, backlog_commands=count)
        async with fresh_ledger(self._servers) as ledger:
            await measure_backlog(ledger, Backlog("warm_up", "uniform", ""), sizes, 0, Figures())

    async def _one_run(self, run: int, history: FreshLedger | None) -> None:
        sizes = self._sizes
        said = f"run {run + 1} of {sizes.runs}:"
        for backlog in sizes.backlogs():
            with_catch_up = backlog.name == "backlog_uniform" and "catch_up" in self._parts
            wanted = ("history" if backlog.on_history else backlog.name) in self._parts
            if not wanted and not with_catch_up:
                continue
            figures = self._figures if wanted else Figures()
            with self._kept_going(backlog.name):
                self._tell(f"{said} {backlog.name}, {sizes.backlog_commands:,} commands")
                if not backlog.on_history:
                    async with fresh_ledger(self._servers) as ledger:
                        await measure_backlog(ledger, backlog, sizes, run, figures, self._profiler)
                        self._tell_last(backlog)
                        if with_catch_up:
                            self._tell(f"{said} catch-up")
                            await measure_catch_up(ledger, self._figures)
                elif history is not None:
                    await measure_backlog(history, backlog, sizes, run, figures, self._profiler)
                    self._tell_last(backlog)
        if "baselines" in self._parts:
            self._tell(f"{said} baselines, {sizes.baseline_s:g} s each")
            with self._kept_going("baselines"):
                await measure_baselines(self._servers, sizes, run, self._figures)
        if "scaling" in self._parts:
            self._tell(f"{said} the backlog with {', '.join(map(str, PROCESSES))} consumers and projection workers")
            with self._kept_going("scaling"):
                await measure_scaling(self._servers, sizes, run, self._figures)

    async def _live(
        self, ledger: FreshLedger, rates_per_s: tuple[int, ...], owners: int = OWNERS, suffix: str = ""
    ) -> None:
        sizes = self._sizes
        async with ledger.running("projector", "consumer") as processes:
            for run in range(sizes.runs):
                for rate_per_s in rates_per_s:
                    self._tell(f"run {run + 1} of {sizes.runs}: live{suffix}, {rate_per_s:,}/s for {sizes.live_s:g} s")
                    await measure_live(
                        ledger, processes, sizes, rate_per_s, run, self._figures, owners=owners, suffix=suffix
                    )

    async def _rebuild(self, history: FreshLedger | None) -> None:
        sizes = self._sizes
        if history is not None:
            await self._rebuild_on(history, sizes.history_owners or 0)
            return
        owners = sizes.rebuild_events // 10
        async with self._filled(sizes.rebuild_events, owners) as ledger:
            await self._rebuild_on(ledger, owners)

    async def _rebuild_on(self, ledger: FreshLedger, owners: int) -> None:
        for run in range(self._sizes.runs):
            self._tell(f"run {run + 1} of {self._sizes.runs}: rebuild of balances, {await ledger.events():,} events")
            await measure_rebuild(ledger, owners, self._figures)

    def _tell_last(self, backlog: Backlog) -> None:
        speed = self._figures.get(backlog.name)
        cpu = self._figures.get(f"cpu_us_per_command_all{backlog.suffix}")
        yardstick = self._figures.get(f"yardstick_us{backlog.suffix}")
        if speed is not None and cpu is not None and yardstick is not None:
            machine = f"yardstick {yardstick.runs[-1]:.2f} us"
            self._say(f"{speed.runs[-1]:,.0f}/s, {cpu.runs[-1]:.1f} us of CPU per command ({machine})")

    def _tell(self, text: str) -> None:
        self._console.print(text)
