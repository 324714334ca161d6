"""`python -m tests.mutants [--only NAME ...] [--jobs 2] [--json FILE]`: takes each guard away and asks the tests.

First the tests run with every guard in place; then, guard by guard, they run without it, and one of them must fail.
The servers are started once for all. Exit code 0: every mutant was noticed. 1: one survived, could not be tried, or a
test fails without any mutation. 2: wrong arguments. 130: interrupted.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, part_of_test
from tests.mutants.tree import Tree, copied_tree
from tests.mutants.trial import Failure, Result, Verdict, run_tests
from tests.servers import running_servers

WIDTH_OF_FILES: Final = 180
"""Characters in a line where nobody looks on: names of tests are long."""

console = Console(stderr=True, width=None if sys.stderr.isatty() else WIDTH_OF_FILES)


@dataclass(frozen=True, slots=True)
class Tried:
    """A mutant and what became of it."""

    mutant: Mutant
    result: Result

    @property
    def noticed_by(self) -> str:
        """The test that noticed it, or why none did."""
        if self.result.verdict is Verdict.NOTICED:
            return str(self.result.failures[0].test)
        if self.result.verdict is Verdict.TIMEOUT:
            return f"timeout ({self.result.failures[0].test if self.result.failures else 'of all tests together'})"
        return str(self.result.verdict.value).upper()

    @property
    def proven(self) -> bool:
        """Whether the tests have noticed that the guard is gone."""
        return self.result.verdict in (Verdict.NOTICED, Verdict.TIMEOUT)


async def run(
    mutants: Sequence[Mutant], trees: Sequence[Tree], environment: Mapping[str, str]
) -> tuple[list[Failure], list[Tried]]:
    """Run the tests with every guard, then try the mutants; the failures of the first, and all that was tried."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console
    ) as progress:
        whole = _by_file({test for mutant in mutants for test in mutant.tests})
        bar = progress.add_task("with every guard", total=len(whole))
        failures: list[Failure] = []

        async def try_whole(tree: Tree) -> None:
            while whole:
                # Files side by side in one run: starting pytest costs more than most of them.
                share = [whole.pop() for _ in range(max(1, len(whole) // (2 * len(trees))))]
                result = await run_tests(
                    tree.root, [test for tests in share for test in tests], environment, to_the_end=True
                )
                if result.verdict is not Verdict.SURVIVED and not result.failures:
                    console.print(escape(result.output))
                    failures.append(Failure(", ".join(test for tests in share for test in tests), "", result.output))
                failures.extend(result.failures)
                progress.advance(bar, len(share))

        async with asyncio.TaskGroup() as group:
            for tree in trees:
                group.create_task(try_whole(tree))
        for failure in failures:
            console.print(
                f"[red]fails with every guard in place:[/] {escape(failure.test)}\n{escape(failure.text[-2_000:])}"
            )

        waiting = list(reversed(mutants))
        bar = progress.add_task("without one", total=len(mutants))
        tried: list[Tried] = []

        async def try_mutants(tree: Tree) -> None:
            while waiting:
                mutant = waiting.pop()
                with tree.without(mutant):
                    result = await run_tests(tree.root, mutant.tests, environment)
                tried.append(one := Tried(mutant, result))
                style = "green" if one.proven else "bold red"
                progress.console.print(f"[{style}]{mutant.name}[/] {result.seconds:.1f} s: {escape(one.noticed_by)}")
                if result.verdict is Verdict.NOT_TRIED:
                    progress.console.print(escape(result.output))
                progress.advance(bar)

        async with asyncio.TaskGroup() as group:
            for tree in trees:
                group.create_task(try_mutants(tree))
    order = {mutant.name: index for index, mutant in enumerate(mutants)}
    return failures, sorted(tried, key=lambda one: order[one.mutant.name])


def _by_file(tests: set[str]) -> list[list[str]]:
    """The tests without those that are named by their whole file too, grouped by file."""
    files = {test for test in tests if "::" not in test}
    groups: dict[str, list[str]] = {}
    for test in sorted(tests):
        file, _ = part_of_test(test)
        if test in files or file not in files:
            groups.setdefault(file, []).append(test)
    return list(groups.values())


def report(tried: Sequence[Tried], failures: Sequence[Failure], seconds: float) -> None:
    """Show the table and what it adds up to."""
    table = Table("mutant", "keeps", "noticed by", "s", title="Guards taken away")
    for one in tried:
        style = None if one.proven else "red"
        table.add_row(
            one.mutant.name, one.mutant.keeps, escape(one.noticed_by), f"{one.result.seconds:.1f}", style=style
        )
    console.print(table)
    suites = Counter(one.noticed_by.split("/")[1] for one in tried if one.result.verdict is Verdict.NOTICED)
    by_suite = ", ".join(f"{suite} {count}" for suite, count in suites.most_common())
    proven = sum(one.proven for one in tried)
    console.print(f"{proven} of {len(tried)} mutants noticed ({by_suite}) in {seconds:.0f} s")
    if failures:
        console.print(f"[red]{len(failures)} tests fail with every guard in place[/]")
    for one in tried:
        if not one.proven:
            console.print(f"[red]{one.mutant.name}[/]: {one.result.verdict.value}. {one.mutant.guard}")


def as_json(tried: Sequence[Tried], failures: Sequence[Failure], seconds: float) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "seconds": round(seconds, 1),
            "mutants": len(tried),
            "noticed": sum(one.proven for one in tried),
            "failing_with_every_guard": [failure.test for failure in failures],
            "trials": [
                {
                    "name": one.mutant.name,
                    "guard": one.mutant.guard,
                    "keeps": one.mutant.keeps,
                    "file": one.mutant.file,
                    "verdict": one.result.verdict.value,
                    "noticed_by": one.noticed_by if one.proven else None,
                    "seconds": round(one.result.seconds, 1),
                }
                for one in tried
            ],
        },
        indent=1,
    )


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="mutants to try, instead of all")
    parser.add_argument("--jobs", type=int, default=2, help="mutants tried at a time (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--list", action="store_true", help="say which there are, and try none")
    arguments = parser.parse_args()
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    unknown = set(arguments.only or ()) - by_name.keys()
    if unknown:
        parser.error(f"there is no mutant {', '.join(sorted(unknown))}; --list shows all")
    mutants = [by_name[name] for name in arguments.only or by_name]
    if arguments.list:
        for mutant in mutants:
            console.print(f"[bold]{mutant.name}[/] ({mutant.keeps}) {mutant.file}: {escape(mutant.guard)}")
        return 0
    for mutant in mutants:
        mutant.mutated(Path(__file__).parents[2])
    # A run that is told to end tidies up like one that is interrupted: servers, copies, tests under way.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            servers = stack.enter_context(running_servers())
            environment = {
                **os.environ,
                "LEDGER_KAFKA_BOOTSTRAP_SERVERS": servers.kafka_bootstrap_servers,
                "LEDGER_DATABASE_URL": servers.database_url,
            }
            trees = [stack.enter_context(copied_tree()) for _ in range(max(1, arguments.jobs))]
            began = time.monotonic()
            failures, tried = asyncio.run(run(mutants, trees, environment))
            seconds = time.monotonic() - began
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130
    report(tried, failures, seconds)
    if arguments.json is not None:
        arguments.json.write_text(as_json(tried, failures, seconds) + "\n")
    return 0 if all(one.proven for one in tried) and not failures else 1


if __name__ == "__main__":
    sys.exit(main())
