"""How much is measured. QUICK answers within three minutes; the full sizes are what docs/benchmarks.md quotes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks.commands import Distribution

PARTITIONS: Final = 12
"""The default of `make run`."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """One kind of backlog, and under which name it is measured."""

    name: str
    distribution: Distribution
    suffix: str
    """Of the other figures that come with it; those of the uniform one on an empty ledger have plain names."""

    on_history: bool = False


@dataclass(frozen=True, slots=True)
class Sizes:
    """One set of sizes."""

    name: str
    runs: int
    """How often each thing is measured; median and spread are over these."""

    warm_up_commands: int
    """A backlog that is not measured, before the others: the broker's code is compiled while it runs first."""

    backlog_commands: int
    backlog_owners: int
    history_events: int | None
    """How many events the ledger holds on which things are measured again; None: they are not."""

    history_owners: int | None
    rebuild_events: int
    """How many events `balances` is rebuilt from where there is no such history."""

    baseline_s: float
    """How long each baseline runs."""

    live_s: float
    """How long each rate is kept up, after the warm-up."""

    live_warm_up_s: float
    live_rates_per_s: tuple[int, ...]
    """Issue by issue: the first target was at 500 commands/s, the later ones are at 1,000."""

    http_owners: int
    """Each has entries beforehand."""

    http_s: float
    """How long each kind of request is kept up in a run; once before, but a second at most, to warm up."""

    idle_settle_s: float
    """How long after `ready` memory is read: what the start needed is given back by then."""

    @property
    def at_history(self) -> str:
        """What figures that were measured on the history are called after: `at_10m`."""
        events = self.history_events or 0
        return f"at_{events // 1_000_000}m" if events and events % 1_000_000 == 0 else f"at_{events}"

    def backlogs(self) -> Iterator[Backlog]:
        """In the order in which a run measures them: with and without history in turn."""
        for name, distribution, suffix in (
            ("backlog_uniform", "uniform", ""),
            ("backlog_zipf", "zipf", "_zipf"),
        ):
            yield Backlog(name, distribution, suffix)  # type: ignore[arg-type]
            if self.history_events is not None:
                at = self.at_history
                yield Backlog(f"{name}_{at}", distribution, f"{suffix}_{at}", on_history=True)  # type: ignore[arg-type]
        yield Backlog("hot_owner", "hot", "_hot_owner")


QUICK: Final = Sizes(
    name="quick",
    runs=3,
    warm_up_commands=10_000,
    backlog_commands=50_000,
    backlog_owners=20_000,
    history_events=None,
    history_owners=None,
    rebuild_events=200_000,
    baseline_s=0.6,
    live_s=3.0,
    live_warm_up_s=1.0,
    live_rates_per_s=(1_000,),
    http_owners=2_000,
    http_s=1.0,
    idle_settle_s=3.0,
)
FULL: Final = Sizes(
    name="full",
    runs=3,
    warm_up_commands=100_000,
    backlog_commands=500_000,
    backlog_owners=100_000,
    history_events=10_000_000,
    history_owners=1_000_000,
    rebuild_events=1_000_000,
    baseline_s=8.0,
    live_s=60.0,
    live_warm_up_s=5.0,
    live_rates_per_s=(500, 1_000),
    http_owners=10_000,
    http_s=10.0,
    idle_settle_s=20.0,
)
