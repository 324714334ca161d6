"""Plots of the figures. The same figures give the same bytes, so that a page that did not change is no change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.figures import Figure, Figures
from benchmarks.targets import TARGETS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_INK: Final = "#1f2933"
_LEDGER: Final = "#2563eb"
_OTHER: Final = "#9aa5b1"
_TARGET: Final = "#d64545"
_PROCESSES: Final = (
    ("consumer", "#2563eb"),
    ("projector", "#60a5fa"),
    ("kafka", "#f59e0b"),
    ("postgres", "#10b981"),
)
_SETTINGS: Final[dict[Any, Any]] = {
    "svg.hashsalt": "ledger",
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": "#cbd2d9",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_NO_DATE: Final[dict[str, dict[str, str | None]]] = {"svg": {"Date": None}, "png": {"Software": None}}

Paint = Callable[["Axes", Figures], bool]
"""Draws on the axes; False when none of its figures were measured."""


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture."""

    title: str
    paint: Paint


def draw(name: str, figures: Figures, folder: Path) -> bool:
    """Write one of PLOTS as PNG and SVG; False, and nothing, when none of its figures were measured."""
    # A second of imports, of which those who only measure a part need nothing.
    from matplotlib import rc_context  # noqa: PLC0415
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure as Canvas  # noqa: PLC0415

    plot = PLOTS[name]
    with rc_context(_SETTINGS):
        canvas = Canvas(figsize=(8, 3.6), layout="constrained")
        FigureCanvasAgg(canvas)
        axes = canvas.add_subplot()
        if not plot.paint(axes, figures):
            return False
        canvas.suptitle(plot.title, x=0.01, ha="left", fontweight="bold")
        for kind, metadata in _NO_DATE.items():
            canvas.savefig(folder / f"{name}.{kind}", metadata=metadata, dpi=150)
    return True


def _throughput(axes: "Axes", figures: Figures) -> bool:
    labels = {
        "naive_1": "a transaction per command, 1 connection",
        "naive_16": "the same, 16 connections",
        "function_16": "one SQL function, 16 connections",
        "function_batch_100": "100 commands a call",
        "backlog_uniform": "ledger, 100,000 owners evenly",
        "backlog_zipf": "ledger, a few busy owners",
        "hot_owner": "ledger, one owner",
        "backlog_uniform_at_10m": "ledger holding 10,000,000 events",
    }
    rows = [(label, figure) for name, label in labels.items() if (figure := figures.get(name)) is not None]
    _bars(axes, rows, [_LEDGER if label.startswith("ledger") else _OTHER for label, _ in rows])
    axes.set_xlabel("commands per second: median, least and most")
    if figures.get("backlog_uniform") is not None:
        _target(axes, TARGETS["backlog_uniform"].bound)
    return bool(rows)


def _cpu(axes: "Axes", figures: Figures) -> bool:
    cases = {
        "": "many owners evenly",
        "_zipf": "a few busy owners",
        "_hot_owner": "one owner",
        "_at_10m": "on 10,000,000 events",
    }
    shown = [(suffix, label) for suffix, label in cases.items() if figures.get(f"cpu_us_per_command_all{suffix}")]
    left = [0.0] * len(shown)
    for process, colour in _PROCESSES:
        found = [figures.get(f"cpu_us_per_command_{process}{suffix}") for suffix, _ in shown]
        widths = [0.0 if figure is None else figure.median for figure in found]
        axes.barh([label for _, label in shown], widths, left=left, color=colour, label=process)
        left = [before + width for before, width in zip(left, widths, strict=True)]
    for row, total in enumerate(left):
        axes.annotate(f" {total:.1f}", (total, row), va="center")
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("CPU, microseconds per command (medians)")
    if shown:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
        _target(axes, TARGETS["cpu_us_per_command_all"].bound)
    return bool(shown)


def _latency(axes: "Axes", figures: Figures) -> bool:
    shown = []
    for suffix, where in (("", ""), ("_at_10m", ", on 10,000,000 events")):
        for what, label in (("outcome", "to outcome"), ("visible", "to visible balance")):
            pair = [figures.get(f"live_{what}_{share}_ms{suffix}") for share in ("p50", "p99")]
            if pair[0] is not None and pair[1] is not None:
                shown.append((label + where, pair[0], pair[1]))
    for row, (_, middle, most) in enumerate(shown):
        axes.barh(row, most.median, color="#bfdbfe", label="99%" if row == 0 else None)
        axes.barh(row, middle.median, color=_LEDGER, label="half" if row == 0 else None)
        axes.annotate(f" {middle.median:.1f} / {most.median:.1f}", (most.median, row), va="center")
    axes.margins(x=0.18)
    axes.set_yticks(range(len(shown)), [label for label, _, _ in shown])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds from publishing, at 1,000 commands a second (medians of runs)")
    if shown:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title="of commands")
    return bool(shown)


def _http(axes: "Axes", figures: Figures) -> bool:
    labels = {
        "ancestor_post": "POST, FastAPI and SQLAlchemy",
        "http_post": "POST, ledger",
        "http_post_batch": "POST of 100 entries, ledger (entries)",
        "ancestor_get": "GET, FastAPI and SQLAlchemy",
        "http_get": "GET, ledger",
    }
    rows = [(label, figure) for name, label in labels.items() if (figure := figures.get(name)) is not None]
    _bars(axes, rows, [_LEDGER if "ledger" in label else _OTHER for label, _ in rows])
    axes.set_xlabel("requests (entries) per second: median, least and most")
    return bool(rows)


def _bars(axes: "Axes", rows: Sequence[tuple[str, Figure]], colours: Sequence[str]) -> None:
    medians = [figure.median for _, figure in rows]
    spread = [
        [figure.median - min(figure.runs) for _, figure in rows],
        [max(figure.runs) - figure.median for _, figure in rows],
    ]
    axes.barh([label for label, _ in rows], medians, color=list(colours), xerr=spread, ecolor=_INK, capsize=2)
    for row, (_, figure) in enumerate(rows):
        axes.annotate(f"  {figure.median:,.0f}", (max(figure.runs), row), va="center")
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.12)


def _target(axes: "Axes", bound: float) -> None:
    axes.axvline(bound, color=_TARGET, linewidth=1, linestyle="--")


PLOTS: Final = {
    "throughput": Plot("From Kafka to committed balances, and what one would write instead", _throughput),
    "cpu": Plot("What a command costs, all processes together", _cpu),
    "latency": Plot("Latency", _latency),
    "http": Plot("HTTP", _http),
}
"""By the name of the file. The dashed line is the target."""
