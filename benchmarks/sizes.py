"""How much is measured. QUICK answers within three minutes; the full sizes are what docs/benchmarks.md quotes."""

from dataclasses import dataclass
from typing import Final

PARTITIONS: Final = 12
"""The default of `make run`."""

LIVE_RATES_PER_S: Final = (500, 1_000)
"""Issue by issue: the first target was at 500 commands/s, the later ones are at 1,000."""


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
    baseline_s: float
    """How long each baseline runs."""

    live_s: float
    """How long each rate is kept up, after the warm-up."""

    live_warm_up_s: float
    idle_settle_s: float
    """How long after `ready` memory is read: what the start needed is given back by then."""


QUICK: Final = Sizes("quick", 3, 30_000, 60_000, 20_000, 1.0, 3.0, 1.0, 3.0)
FULL: Final = Sizes("full", 3, 100_000, 300_000, 100_000, 8.0, 20.0, 3.0, 20.0)
