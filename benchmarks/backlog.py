"""A backlog: commands that lie in Kafka, from there to the last committed balance."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final

from benchmarks.commands import make_commands, some_owners
from benchmarks.figures import Figures
from benchmarks.footprint import measure_footprint
from benchmarks.fresh_ledger import FreshLedger
from benchmarks.ledger_process import LedgerProcess, MeasurementError
from benchmarks.meters import MEGABYTE, CpuMeter, peak_rss_bytes
from benchmarks.profiling import Profiler
from benchmarks.publishing import publish_commands
from benchmarks.sizes import Backlog, Sizes
from benchmarks.yardstick import yardstick_us
from ledger.domain.command import Command

SLOWEST_PER_S: Final = 1_000
"""A ledger that is slower than this is taken to stand still."""

LOOK_S: Final = (0.005, 0.25)
"""Least and most time between two looks at how far it is: rare while much is left, so that looking costs nothing."""


async def measure_backlog(
    ledger: FreshLedger, backlog: Backlog, sizes: Sizes, run: int, into: Figures, profiler: Profiler | None = None
) -> None:
    """One run: commands into Kafka, then one ledger consumer and one projection worker that find them there.

    The clock starts when the consumer has claimed its partitions (the worker holds its own by then), before it has read
    a command, and ends when every read model's checkpoint has passed the last event.
    """
    count = sizes.backlog_commands
    owners = some_owners(sizes.backlog_owners, sizes.history_owners or 0, seed=run) if backlog.on_history else None
    commands = make_commands(count, owners or sizes.backlog_owners, backlog.distribution, seed=run)
    before = await _Totals.of(ledger)
    footprint = await measure_footprint(ledger)
    if profiler is not None:
        await profiler.before(ledger)
    async with ledger.running("projector", beside=publish_commands(ledger, commands)) as projector:
        await ledger.do("checkpoint")
        machine_us = yardstick_us()
        async with ledger.running("consumer") as consumer:
            processes = {**projector, **consumer}
            began = time.perf_counter()
            meter = CpuMeter({**ledger.servers.pids, **{name: process.pid for name, process in processes.items()}})
            meter.start()
            if profiler is not None:
                await profiler.start(processes)
            await until_projected(ledger, before.events + count, processes)
            elapsed_s = time.perf_counter() - began
            spent_s = meter.seconds()
            if profiler is not None:
                await profiler.stop(f"{backlog.name}, run {run + 1}", count)
            peak_mb = peak_rss_bytes(consumer["consumer"].pid) / MEGABYTE
            start_s = ledger.start_s["consumer"]
    await _check(ledger, before, commands)
    into.add(f"yardstick_us{backlog.suffix}", (machine_us + yardstick_us()) / 2, "us")
    into.add(backlog.name, count / elapsed_s, "commands/s")
    for name, seconds in sorted(spent_s.items()):
        into.add(f"cpu_us_per_command_{name}{backlog.suffix}", seconds / count * 1e6, "us")
    into.add(f"cpu_us_per_command_all{backlog.suffix}", sum(spent_s.values()) / count * 1e6, "us")
    if backlog.distribution == "uniform":
        into.add(f"claim{backlog.suffix}_s", start_s, "s")
        into.add(f"consumer_rss{backlog.suffix}_mb", peak_mb, "MiB")
        for name, value in (await measure_footprint(ledger)).per_event_since(footprint, count).items():
            into.add(f"bytes_per_event_{name}{backlog.suffix}", value, "bytes")


async def until_projected(
    ledger: FreshLedger,
    events: int,
    processes: Mapping[str, LedgerProcess],
    on_progress: Callable[[int], None] | None = None,
) -> None:
    """Until every read model has taken in so many events.

    Raises:
        MeasurementError: a process ended, or it takes too long.
    """
    least_s, most_s = LOOK_S
    first = await ledger.ask("projected")
    began = time.perf_counter()
    deadline = began + 60 + (events - first) / SLOWEST_PER_S
    pause_s = least_s
    while True:
        done = await ledger.ask("projected")
        if on_progress is not None:
            on_progress(done)
        if done >= events:
            return
        ledger.require_alive(deadline, processes)
        if done > first:
            # Half of what seems to be left: rare looks in the beginning, close ones at the end.
            left_s = (events - done) * (time.perf_counter() - began) / (done - first)
            pause_s = min(max(left_s / 2, least_s), most_s)
        await asyncio.sleep(pause_s)


class _Totals:
    """What record and read models hold before a run."""

    def __init__(self, sequences: list[int], balances: int) -> None:
        self.sequences = sequences
        self.balances = balances
        self.events = sum(sequences)

    @classmethod
    async def of(cls, ledger: FreshLedger) -> "_Totals":
        sequences = [row["sequence"] for row in await ledger.rows("head_sequences")]
        [found] = await ledger.totals(sequences)
        return cls(sequences, found["balances"])


async def _check(ledger: FreshLedger, before: _Totals, commands: list[Command]) -> None:
    """A figure counts only when the work was done."""
    total = sum(command.amount or 0 for command in commands)
    expected = {
        "entries": len(commands),
        "credited": total,
        "balances": before.balances + total,
        "lines": before.events + len(commands),
    }
    [found] = await ledger.totals(before.sequences)
    if dict(found) != expected:
        raise MeasurementError(f"the work was not done: expected {expected}, found {dict(found)}")
