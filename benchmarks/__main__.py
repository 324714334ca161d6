"""`python -m benchmarks [--quick] [--only PART ...]`: measure, print a table, write results/latest.json."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.backlog import measure_backlog
from benchmarks.baselines import measure_baselines
from benchmarks.figures import Figures, write_results
from benchmarks.fresh_ledger import MeasurementError, fresh_ledger
from benchmarks.header import header
from benchmarks.idle import measure_idle
from benchmarks.live import measure_live
from benchmarks.servers import Servers, running_servers
from benchmarks.sizes import FULL, LIVE_RATES_PER_S, QUICK, Sizes
from benchmarks.table import print_results
from ledger.settings import Settings
from service.stack import StackError

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
TABLE_COLUMNS_MIN: Final = 110
"""A log that is narrower would cut names off."""

PARTS: Final = ("backlog_uniform", "backlog_zipf", "baselines", "live", "idle")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code. A missed target is shown, and is no error."""
    asked = _parser().parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    sizes = sizes if asked.runs is None else replace(sizes, runs=asked.runs)
    console = Console(stderr=True, highlight=False)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_benchmark(sizes, frozenset(asked.only or PARTS), asked.out, console))
    except (MeasurementError, StackError) as error:
        console.print(f"[red]The benchmark failed:[/] {error}")
        return 1
    return 0


async def _benchmark(sizes: Sizes, parts: frozenset[str], out: Path, console: Console) -> None:
    figures = Figures()
    home = Settings().home.resolve() / "bench"

    def say(text: str) -> None:
        console.print(f"  {text}", style="dim")

    async with running_servers(home, say) as servers:
        about = await header(servers, sizes)
        if parts & {"backlog_uniform", "backlog_zipf"}:
            console.print(f"warm-up, {sizes.warm_up_commands:,} commands")
            warm_up = replace(sizes, backlog_commands=sizes.warm_up_commands)
            await measure_backlog(servers, warm_up, "uniform", 0, Figures())
        for run in range(sizes.runs):
            await _one_run(servers, sizes, parts, run, figures, console)
        if "live" in parts:
            await _live(servers, sizes, figures, console)
    if "idle" in parts:
        console.print("idle: everything that `make run` starts, on local processes")
        await measure_idle(home, sizes, figures, say)
    _add_ratios(figures)
    write_results(out, about, figures)
    print_results(Console(width=max(TABLE_COLUMNS_MIN, Console().width)), about, figures)
    console.print(f"written to {out}")


async def _one_run(
    servers: Servers, sizes: Sizes, parts: frozenset[str], run: int, figures: Figures, console: Console
) -> None:
    # Everything once, then everything again: a machine that slows down for a while slows down all alike.
    said = f"run {run + 1} of {sizes.runs}:"
    for distribution in ("uniform", "zipf"):
        if f"backlog_{distribution}" in parts:
            console.print(f"{said} backlog, {distribution}, {sizes.backlog_commands:,} commands")
            await measure_backlog(servers, sizes, distribution, run, figures)
    if "baselines" in parts:
        console.print(f"{said} baselines, {sizes.baseline_s:g} s each")
        await measure_baselines(servers, sizes, run, figures)


async def _live(servers: Servers, sizes: Sizes, figures: Figures, console: Console) -> None:
    async with fresh_ledger(servers) as ledger, ledger.running("projector", "consumer") as processes:
        for run in range(sizes.runs):
            for rate_per_s in LIVE_RATES_PER_S:
                console.print(f"run {run + 1} of {sizes.runs}: live, {rate_per_s:,}/s for {sizes.live_s:g} s")
                await measure_live(ledger, processes, sizes, rate_per_s, run, figures)


def _add_ratios(figures: Figures) -> None:
    """The ledger beside its baselines, run by run."""
    ledger = figures.get("backlog_uniform")
    for baseline in ("naive_1", "naive_16", "function_batch_100"):
        other = figures.get(baseline)
        if ledger is not None and other is not None:
            for mine, theirs in zip(ledger.runs, other.runs, strict=True):
                figures.add(f"backlog_uniform_to_{baseline}", mine / theirs, "times")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller sizes: under three minutes")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="leave the other parts out")
    parser.add_argument("--runs", type=int, help="measure each this often, instead of 3 times")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are written")
    return parser


if __name__ == "__main__":
    sys.exit(main())
