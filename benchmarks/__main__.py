"""`python -m benchmarks [--quick] [--only PART ...]`: measure, print a table, write results, draw plots.

Parts: backlog (backlog_uniform, backlog_zipf, hot_owner), history (the backlogs and live again on a large ledger),
catch_up, rebuild, baselines, live, http, ancestor, scaling, idle.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from benchmarks.bench import PARTS, Bench
from benchmarks.deployment import main as write_deployment
from benchmarks.figures import Figures, write_results
from benchmarks.fresh_ledger import drop_template
from benchmarks.header import header
from benchmarks.idle import measure_idle
from benchmarks.ledger_process import MeasurementError
from benchmarks.profiling import Profiler
from benchmarks.ratios import add_ratios
from benchmarks.report import write_report
from benchmarks.servers import running_servers
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.table import medians, print_results
from ledger.settings import Settings
from service.stack import StackError

RESULTS: Final = Path(__file__).parent / "results" / "latest.json"
PAGES: Final = Path(__file__).parents[1] / "docs" / "bench"
"""What the README shows."""

TABLE_COLUMNS_MIN: Final = 110
"""A log that is narrower would cut names off."""

GROUPS: Final = {"backlog": ("backlog_uniform", "backlog_zipf", "hot_owner")}
"""Names for several parts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code. A missed target is shown, and is no error."""
    asked = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False)
    # What takes long and changes rarely is left out when nobody has time.
    all_parts = [part for part in PARTS if not (asked.quick and part in ("idle", "scaling"))]
    parts = frozenset(part for name in asked.only or all_parts for part in GROUPS.get(name, (name,)))
    try:
        before = None if asked.against is None else medians(asked.against)
    except (OSError, ValueError, KeyError) as error:
        console.print(f"[red]{asked.against} is no result of an earlier benchmark:[/] {error!r}")
        return 2
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_benchmark(_sizes(asked), parts, asked, before, console))
    except (MeasurementError, StackError) as error:
        console.print(f"[red]The benchmark failed:[/] {error}")
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing was written")
        return 130
    return 0


async def _benchmark(
    sizes: Sizes,
    parts: frozenset[str],
    asked: argparse.Namespace,
    before: dict[str, float] | None,
    console: Console,
) -> None:
    figures = Figures()
    home = Settings().home.resolve() / "bench"

    def say(text: str) -> None:
        console.print(f"  {text}", style="dim")

    async with running_servers(home, say, keep=asked.keep) as servers:
        about = await header(servers, sizes, asked.label)
        try:
            profiler = Profiler(console) if asked.profile else None
            bench = Bench(servers, sizes, parts, figures, console, say, profiler, keep=asked.keep)
            await bench.measure()
        finally:
            await drop_template(servers)
    if "idle" in parts:
        console.print("idle: everything that `make run` starts, on local processes")
        await measure_idle(home.with_name("bench-idle"), sizes, figures, say)
    if bench.failures:
        about["failures"] = bench.failures
    add_ratios(figures, sizes)
    write_results(asked.json, about, figures)
    print_results(Console(width=max(TABLE_COLUMNS_MIN, Console().width)), about, figures, before)
    console.print(f"written to {asked.json}")
    # The pages show whole benchmarks only.
    whole = parts == frozenset(PARTS) and sizes == FULL and not bench.failures
    folder = asked.report or (PAGES if whole else asked.json.parent)
    write_report(asked.json, folder)
    console.print(f"table and plots: {folder}")
    if bench.failures:
        raise MeasurementError("not everything was measured: " + "; ".join(bench.failures))
    if folder == PAGES:
        # What a deployment needs is computed from what a whole benchmark found.
        write_deployment([str(asked.json)])


def _sizes(asked: argparse.Namespace) -> Sizes:
    sizes = QUICK if asked.quick else FULL
    sizes = sizes if asked.runs is None else replace(sizes, runs=asked.runs)
    sizes = sizes if asked.commands is None else replace(sizes, backlog_commands=asked.commands)
    if asked.history_events is not None:
        events, owners = asked.history_events, asked.history_owners or max(asked.history_events // 10, 1)
        sizes = replace(sizes, history_events=events or None, history_owners=owners if events else None)
    return sizes


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller sizes: under three minutes, no history")
    parser.add_argument("--only", nargs="+", choices=(*GROUPS, *PARTS), metavar="PART", help="leave the others out")
    parser.add_argument("--runs", type=int, help="measure each this often, instead of 3 times")
    parser.add_argument("--commands", type=int, help="of a backlog, instead of 500,000")
    parser.add_argument("--history-events", type=int, help="of the large ledger, instead of 10,000,000; 0: none")
    parser.add_argument("--history-owners", type=int, help="of the large ledger, instead of a tenth of its events")
    parser.add_argument("--keep", action="store_true", help="the large ledger, and use the one that was kept before")
    parser.add_argument("--label", default="", help="a word about this run, kept with the results")
    parser.add_argument("--json", "--out", type=Path, default=RESULTS, help="where the results are written")
    parser.add_argument("--against", type=Path, help="an earlier results file to compare with")
    parser.add_argument("--profile", action="store_true", help="show where the time of each backlog went")
    parser.add_argument(
        "--report",
        type=Path,
        help="a folder for the table and the plots, instead of docs/bench "
        "(a whole benchmark) or the folder of the results",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
