"""The page of results and its plots, made from a results file: `python -m benchmarks.report [RESULTS [FOLDER]]`.

Nothing in it is written by hand, so that a page never says what no run has measured.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.figures import Figure, Figures
from benchmarks.plots import PLOTS, draw
from benchmarks.table import describe, numbers
from benchmarks.targets import TARGETS

PAGES: Final = Path(__file__).parents[1] / "docs" / "bench"

_SECTIONS: Final = (
    ("Out of a backlog", ("backlog_", "hot_owner", "claim", "consumer_rss")),
    ("CPU per command", ("cpu_us_per_command", "yardstick_us")),
    ("Bytes per event", ("bytes_per_event",)),
    ("More processes", ("scaling_",)),
    ("Live", ("live_",)),
    ("Read models", ("catch_up", "rebuild")),
    ("HTTP", ("http_", "ancestor_")),
    ("What one would write instead", ("naive_", "function_")),
    ("Idle", ("idle_",)),
)
"""By how the names begin."""


def write_report(results: Path, folder: Path) -> None:
    """Write `results.md`, `results.json` and each plot as PNG and SVG.

    Raises:
        OSError, ValueError, KeyError: there are no results in that file.
    """
    document = json.loads(results.read_text())
    figures = Figures.of(document["results"])
    folder.mkdir(parents=True, exist_ok=True)
    if results.resolve() != (folder / "results.json").resolve():
        (folder / "results.json").write_text(results.read_text())
    drawn = [name for name in PLOTS if draw(name, figures, folder)]
    (folder / "results.md").write_text(_page(document["header"], figures, drawn))


def _page(header: Mapping[str, Any], figures: Figures, drawn: list[str]) -> str:
    commit = header.get("commit") or "an unknown commit"
    lines = [
        "# Results of the benchmark",
        "",
        "Written by `make bench`; what the names mean is said in `docs/benchmarks.md`.",
        "",
        f"Measured at {header['measured_at']} on {commit}: {describe(header)}. {header['durability']}.",
        "",
    ]
    lines += [f"**Not measured:** {failure}\n" for failure in header.get("failures", ())]
    for name in drawn:
        lines += [f"![{PLOTS[name].title}]({name}.svg)", ""]
    missed = [figure for figure in figures if figure.name in TARGETS and not TARGETS[figure.name].met_by(figure)]
    met = sum(figure.name in TARGETS for figure in figures) - len(missed)
    lines += [f"{met} targets met, {len(missed)} missed{_named(missed)}.", ""]
    rest = list(figures)
    for title, beginnings in _SECTIONS:
        some = [figure for figure in rest if figure.name.startswith(beginnings)]
        rest = [figure for figure in rest if figure not in some]
        lines += _table(title, some)
    lines += _table("Other figures", rest)
    return "\n".join(lines)


def _named(figures: list[Figure]) -> str:
    return ": " + ", ".join(f"`{figure.name}`" for figure in figures) if figures else ""


def _table(title: str, figures: list[Figure]) -> list[str]:
    if not figures:
        return []
    rows = [f"## {title}", "", "| figure | median | least | most | unit | target |", "|---|--:|--:|--:|---|---|"]
    for figure in figures:
        target = TARGETS.get(figure.name)
        told = "" if target is None else f"{target}, {'met' if target.met_by(figure) else '**missed**'}"
        rows.append(f"| `{figure.name}` | {' | '.join(numbers(figure))} | {figure.unit} | {told} |")
    return [*rows, ""]


if __name__ == "__main__":
    written = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGES / "results.json"
    write_report(written, Path(sys.argv[2]) if len(sys.argv) > 2 else PAGES)
