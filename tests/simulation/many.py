"""Runs many seeds in several processes, and shows how far it is."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation.fault_kinds import Fault
from tests.simulation.running import Outcome, quiet, run_seed
from tests.simulation.shrinking import shrink

SEEDS_A_TURN: Final = 10
TURNS_WAITING_MAX: Final = 4
"""For each process: so that none is ever idle, and Ctrl-C has little to wait for."""

FAILURES_MAX: Final = 5
"""Failing seeds that are made small and told before a run gives up."""


@dataclass
class Turn:
    """What came of a few seeds."""

    seeds: int = 0
    events: int = 0
    cpu_s: float = 0.0
    faults: Counter[Fault] = field(default_factory=Counter)
    failed: list[Outcome] = field(default_factory=list)


@dataclass
class Summary:
    """What came of all."""

    first: int
    seeds: int = 0
    events: int = 0
    cpu_s: float = 0.0
    seconds: float = 0.0
    faults: Counter[Fault] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    """A report of each."""
    interrupted: bool = False

    @property
    def ms_per_seed(self) -> float:
        """CPU, in milliseconds."""
        return self.cpu_s * 1000 / max(self.seeds, 1)


def run_many(
    seeds: int,
    first: int,
    *,
    jobs: int,
    failures_max: int = FAILURES_MAX,
    shrink_runs_max: int,
) -> Summary:
    """Run seeds `first` to `first + seeds - 1`; stops after `failures_max` failing ones, and at Ctrl-C."""
    summary = Summary(first)
    began = time.monotonic()
    columns = (
        TextColumn("simulation"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} seeds/s"),
        TimeRemainingColumn(),
    )
    executor = ProcessPoolExecutor(max(jobs, 1), initializer=_begin_process)
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("seeds", total=seeds, rate=0.0)
        try:
            for turn in _turns(executor, seeds, first, max(jobs, 1) * TURNS_WAITING_MAX):
                _add(summary, turn)
                rate = summary.seeds / (time.monotonic() - began)
                progress.update(task, completed=summary.seeds, rate=rate)
                for failed in turn.failed[: failures_max - len(summary.failures)]:
                    progress.console.print(f"seed {failed.seed} fails: {failed.error}", markup=False)
                    summary.failures.append(executor.submit(_report, failed, shrink_runs_max).result())
                if len(summary.failures) >= failures_max:
                    break
        except KeyboardInterrupt:
            summary.interrupted = True
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # once is enough: the turns in hand end in a moment
        finally:
            executor.shutdown(cancel_futures=True)
    summary.seconds = time.monotonic() - began
    return summary


def _turns(executor: ProcessPoolExecutor, seeds: int, first: int, waiting_max: int) -> Iterator[Turn]:
    ranges = (
        range(begin, min(begin + SEEDS_A_TURN, first + seeds)) for begin in range(first, first + seeds, SEEDS_A_TURN)
    )
    waiting: set[Future[Turn]] = set()
    while True:
        while len(waiting) < waiting_max and (some := next(ranges, None)) is not None:
            waiting.add(executor.submit(_run, some))
        if not waiting:
            return
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        for one in done:
            yield one.result()


def _run(seeds: range) -> Turn:
    turn, began = Turn(), time.process_time()
    for seed in seeds:
        outcome = run_seed(seed)
        turn.seeds += 1
        turn.events += outcome.events
        turn.faults += outcome.faults
        if outcome.error is not None:
            turn.failed.append(outcome)
    turn.cpu_s = time.process_time() - began
    return turn


def _report(failed: Outcome, runs_max: int) -> str:
    return shrink(failed, runs_max).report()


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that shows the progress
    quiet()


def _add(summary: Summary, turn: Turn) -> None:
    summary.seeds += turn.seeds
    summary.events += turn.events
    summary.cpu_s += turn.cpu_s
    summary.faults += turn.faults
