"""Figures beside one another, run by run: on a machine whose speed changes, ratios say more than either of the two."""

from benchmarks.figures import Figures
from benchmarks.sizes import Sizes


def add_ratios(figures: Figures, sizes: Sizes) -> None:
    """What the targets ask for, of whatever was measured."""
    for baseline in ("naive_1", "naive_16", "function_batch_100"):
        _add(figures, f"backlog_uniform_to_{baseline}", "backlog_uniform", baseline)
    _add(figures, "hot_owner_to_backlog_uniform", "hot_owner", "backlog_uniform")
    for method in ("post", "get"):
        _add(figures, f"http_{method}_to_ancestor_{method}", f"http_{method}", f"ancestor_{method}")
    if sizes.history_events is not None:
        at = sizes.at_history
        for suffix in ("", "_zipf"):
            _add(
                figures,
                f"cpu_us_per_command_all{suffix}_{at}_to_empty",
                f"cpu_us_per_command_all{suffix}_{at}",
                f"cpu_us_per_command_all{suffix}",
            )


def _add(figures: Figures, name: str, mine: str, theirs: str) -> None:
    one, other = figures.get(mine), figures.get(theirs)
    # Of a part that failed in one run it is not known which run a value is of.
    if one is not None and other is not None and len(one.runs) == len(other.runs):
        for my_value, their_value in zip(one.runs, other.runs, strict=True):
            figures.add(name, my_value / their_value, "times")
