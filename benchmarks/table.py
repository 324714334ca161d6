"""The figures as a table for people, with the targets beside them, and with an earlier result if one is named."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Figures
from benchmarks.targets import TARGETS

_DECIMALS_BELOW: Final = 100


def print_results(
    console: Console, header: Mapping[str, Any], figures: Figures, before: Mapping[str, float] | None = None
) -> None:
    """Print header and figures. `before` are the medians of earlier figures, by name."""
    console.print(f"\n{describe(header)}", highlight=False)
    table = Table(title="Benchmark", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    if before is not None:
        table.add_column("before", justify="right")
        table.add_column("change", justify="right")
    table.add_column("target", justify="right")
    table.add_column("")
    for figure in figures:
        target = TARGETS.get(figure.name)
        met = "" if target is None else "[green]met[/]" if target.met_by(figure) else "[red]MISSED[/]"
        earlier = [] if before is None else _compared(figure, before.get(figure.name))
        table.add_row(
            figure.name,
            *numbers(figure),
            figure.unit,
            *earlier,
            "" if target is None else str(target),
            met,
            style="bold" if target is not None else None,
        )
    console.print(table)


def describe(header: Mapping[str, Any]) -> str:
    """One line about what the figures were measured with."""
    postgres = header["postgres"]
    return (
        f"{header['cores']} cores ({header['cpu']}), Python {header['python']}, Kafka {header['kafka']}, "
        f"Postgres {postgres['server_version']} (fsync {postgres['fsync']}, synchronous_commit "
        f"{postgres['synchronous_commit']}), {header['partitions']} partitions, {header['sizes']['name']} sizes"
    )


def numbers(figure: Figure) -> tuple[str, str, str]:
    """Median, least and most, as people read them."""
    decimals = 2 if figure.unit == "times" else 1 if figure.median < _DECIMALS_BELOW else 0
    median, least, most = (f"{value:,.{decimals}f}" for value in (figure.median, min(figure.runs), max(figure.runs)))
    return median, least, most


def medians(path: Path) -> dict[str, float]:
    """Of an earlier results file, by name.

    Raises:
        OSError, ValueError, KeyError: it is none.
    """
    return {result["name"]: float(result["median"]) for result in json.loads(path.read_text())["results"]}


def _compared(figure: Figure, before: float | None) -> list[str]:
    if before is None or before == 0:
        return ["", ""]
    return [f"{before:,.{1 if before < _DECIMALS_BELOW else 0}f}", f"{(figure.median / before - 1) * 100:+.1f}%"]
