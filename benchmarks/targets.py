"""What must be reached, by the name of the figure."""

from dataclasses import dataclass
from typing import Final

from benchmarks.figures import Figure


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a median."""

    bound: float
    at_least: bool

    def met_by(self, figure: Figure) -> bool:
        """Whether the median is on the right side."""
        return figure.median >= self.bound if self.at_least else figure.median < self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<'} {self.bound:,g}"


TARGETS: Final = {
    "backlog_uniform": Target(15_000, at_least=True),
    "backlog_uniform_to_naive_1": Target(8, at_least=True),
    "live_500_visible_p50_ms": Target(30, at_least=False),
    "live_500_visible_p99_ms": Target(150, at_least=False),
    "idle_pss_mb": Target(1024, at_least=False),
}
