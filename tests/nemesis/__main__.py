"""`python -m tests.nemesis --minutes 10 --seed 1 [--json report.json] [--home DIR]`: faults on the real servers.

Exit code 0 only if all holds; 1 if something does not; 2 if the run could not be made.
"""

import argparse
import asyncio
import json
import logging
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import uvloop
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from service.stack import StackError
from tests.nemesis.run import FaultRun

TABLE_COLUMNS_MIN: Final = 140
RATE_PER_S: Final = 400.0
Report = TypeVar("Report")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.nemesis", description="Faults on the real servers.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, about (10)")
    parser.add_argument("--seed", type=int, default=1, help="of the schedule (1)")
    parser.add_argument("--rate", type=float, default=RATE_PER_S, help="commands per second that are asked for (400)")
    add_common(parser)
    asked = parser.parse_args(arguments)
    return run_in_home(
        asked,
        "faults",
        lambda home, say, progress: FaultRun(home, asked.seed, asked.minutes, asked.rate, say, progress).run(),
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """What every run can be told."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there as well")
    parser.add_argument("--home", type=Path, help="folder of everything; it is kept then (a new one in /tmp)")


def run_in_home(
    asked: argparse.Namespace,
    what: str,
    run: Callable[[Path, Callable[[str], None], Callable[[float, str], None]], Coroutine[Any, Any, Any]],
) -> int:
    """Make the folder, run, report; keep the folder when something is wrong. The exit code."""
    console = Console(stderr=True, highlight=False)
    given = asked.home is not None
    home = asked.home.resolve() if given else Path(tempfile.mkdtemp(prefix=f"ledger-{what}-"))
    if given and home.exists() and any(home.iterdir()):
        console.print(f"[red]{home} is not empty[/]; name another folder")
        return 2
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o755)  # Postgres runs as another account when we are root
    console.print(f"{what}: everything lies in {home}")
    logging.basicConfig(filename=home / "clients.log", level=logging.WARNING)  # of our own clients, who see it all
    try:
        with _progress(console, home) as (say, progress), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(run(home, say, progress))
    except StackError as error:
        console.print(f"[red]The run could not be made:[/] {error}")
        return 2
    except KeyboardInterrupt:
        console.print(f"interrupted; what there is lies in {home}")
        return 130
    (home / "report.json").write_text(json.dumps(report.document, indent=2))
    if asked.json is not None:
        asked.json.write_text(json.dumps(report.document, indent=2))
    report.print(console if console.is_terminal else Console(stderr=True, highlight=False, width=TABLE_COLUMNS_MIN))
    if report.objections or given:
        console.print(f"logs, histories and data: {home}")
    else:
        shutil.rmtree(home, ignore_errors=True)
    return 1 if report.objections else 0


@contextmanager
def _progress(console: Console, home: Path) -> Iterator[tuple[Callable[[str], None], Callable[[float, str], None]]]:
    """Ways to say a line (which is kept in `nemesis.log`) and how far the run has got."""
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (home / "nemesis.log").open("a") as log, Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("starting", total=1.0)

        def say(line: str) -> None:
            timed = f"{datetime.now(UTC):%T.%f}"[:-4] + f" {time.monotonic() - began:7.1f}  {line}"
            log.write(timed + "\n")
            log.flush()
            bar.console.print(timed, style="dim", soft_wrap=True)

        def progress(share: float, what: str) -> None:
            bar.update(task, completed=share, description=what)
            if not console.is_terminal:
                say(f"[{share:4.0%}] {what}")

        yield say, progress


if __name__ == "__main__":
    sys.exit(main())
