"""`python -m tests.simulation [SEEDS] [FIRST]`: run seeds; a failing one is made small and told so that it can be run
again.

Exit code: 0, 1 when a seed failed, 130 after Ctrl-C.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence

from tests.simulation.fault_kinds import Fault
from tests.simulation.many import FAILURES_MAX, Summary, run_many
from tests.simulation.running import quiet, run_seed
from tests.simulation.shrinking import SHRINK_RUNS_MAX


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    options = _options(arguments)
    if options.keep is not None:
        return _run_again(options.first, frozenset(options.keep.split(",")))
    summary = run_many(
        options.seeds,
        options.first,
        jobs=options.jobs,
        failures_max=options.failures,
        shrink_runs_max=options.shrink_runs,
    )
    if options.json:
        print(json.dumps(_as_json(summary)))  # noqa: T201
    else:
        print(_as_text(summary))  # noqa: T201
    if summary.interrupted:
        return 130
    return 1 if summary.failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", type=int, nargs="?", default=1_000, help="how many (default 1,000)")
    parser.add_argument("first", type=int, nargs="?", default=0, help="the first one (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--json", action="store_true", help="the summary for machines")
    parser.add_argument(
        "--failures", type=int, default=FAILURES_MAX, help=f"stop after so many failing seeds (default {FAILURES_MAX})"
    )
    parser.add_argument(
        "--shrink-runs", type=int, default=SHRINK_RUNS_MAX, help="runs spent on making a failure small; 0: none"
    )
    parser.add_argument("--keep", help="run FIRST alone with these decisions only, as a shrunk failure says")
    return parser.parse_args(arguments)


def _run_again(seed: int, kept: frozenset[str]) -> int:
    quiet()
    outcome = run_seed(seed, kept)
    print("\n".join((*outcome.trace, f"seed {seed}: {outcome.error or 'nothing is wrong'}")))  # noqa: T201
    return 1 if outcome.error else 0


def _as_text(summary: Summary) -> str:
    lines = [f"{summary.faults[fault]:>10,}  {fault.value}" for fault in Fault]
    lines += [f"\n{report}" for report in summary.failures]
    lines.append(f"\n{summary.seeds:,} seeds from {summary.first}: {summary.events:,} events")
    lines.append(f"{summary.faults.total():,} faults, {len(summary.failures)} failed")
    lines.append(f"{summary.seconds:.1f} s, {summary.ms_per_seed:.1f} ms of CPU a seed")
    if summary.interrupted:
        lines.append("interrupted")
    return "\n".join(lines)


def _as_json(summary: Summary) -> dict[str, object]:
    return {
        "seeds": summary.seeds,
        "first": summary.first,
        "events": summary.events,
        "seconds": round(summary.seconds, 3),
        "cpu_ms_per_seed": round(summary.ms_per_seed, 3),
        "interrupted": summary.interrupted,
        "faults": {fault.name.lower(): summary.faults[fault] for fault in Fault},
        "failures": summary.failures,
    }


if __name__ == "__main__":
    sys.exit(main())
