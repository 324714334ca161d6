"""The figures as a table for people, with the targets beside them."""

from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Figure, Figures
from benchmarks.targets import TARGETS

_DECIMALS_BELOW: Final = 100


def print_results(console: Console, header: Mapping[str, Any], figures: Figures) -> None:
    """Print header and figures."""
    postgres = header["postgres"]
    console.print(
        f"\n{header['cores']} cores ({header['cpu']}), Python {header['python']}, Kafka {header['kafka']}, "
        f"Postgres {postgres['server_version']} (fsync {postgres['fsync']}, synchronous_commit "
        f"{postgres['synchronous_commit']}), {header['partitions']} partitions, {header['sizes']['name']} sizes",
        highlight=False,
    )
    table = Table(title="Benchmark", title_justify="left")
    table.add_column("figure", no_wrap=True)
    for column in ("median", "min", "max"):
        table.add_column(column, justify="right")
    table.add_column("unit")
    table.add_column("target", justify="right")
    table.add_column("")
    for figure in figures:
        target = TARGETS.get(figure.name)
        met = "" if target is None else "[green]met[/]" if target.met_by(figure) else "[red]MISSED[/]"
        table.add_row(
            figure.name,
            *_numbers(figure),
            figure.unit,
            "" if target is None else str(target),
            met,
            style="bold" if target is not None else None,
        )
    console.print(table)


def _numbers(figure: Figure) -> tuple[str, str, str]:
    decimals = 1 if figure.median < _DECIMALS_BELOW else 0
    median, least, most = (f"{value:,.{decimals}f}" for value in (figure.median, min(figure.runs), max(figure.runs)))
    return median, least, most
