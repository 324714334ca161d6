"""What must be reached on two cores, by the name of the figure."""

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
        return figure.median >= self.bound if self.at_least else figure.median <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.at_least else '<='} {self.bound:,g}"


def _at_least(bound: float) -> Target:
    return Target(bound, at_least=True)


def _at_most(bound: float) -> Target:
    return Target(bound, at_least=False)


TARGETS: Final = {
    "backlog_uniform": _at_least(35_000),
    "backlog_uniform_to_naive_1": _at_least(8),
    "backlog_uniform_to_naive_16": _at_least(7),
    "backlog_uniform_to_function_batch_100": _at_least(1.25),
    "cpu_us_per_command_all": _at_most(45),
    "live_outcome_p50_ms": _at_most(8),
    "live_outcome_p99_ms": _at_most(30),
    "live_visible_p50_ms": _at_most(15),
    "live_visible_p99_ms": _at_most(60),
    "cpu_us_per_command_all_at_10m_to_empty": _at_most(1.15),
    "cpu_us_per_command_all_zipf_at_10m_to_empty": _at_most(1.15),
    "claim_at_10m_s": _at_most(3),
    "consumer_rss_at_10m_mb": _at_most(400),
    "catch_up": _at_least(80_000),
    "rebuild": _at_least(400_000),
    "http_post": _at_least(2_000),
    "http_get": _at_least(4_000),
    "http_post_batch": _at_least(15_000),
    "http_post_to_ancestor_post": _at_least(5),
    "http_get_to_ancestor_get": _at_least(5),
    "hot_owner_to_backlog_uniform": _at_least(0.8),
    "scaling_2_cpu_ratio": _at_most(1.15),
    "scaling_4_cpu_ratio": _at_most(1.15),
    "live_500_visible_p50_ms": _at_most(30),
    "live_500_visible_p99_ms": _at_most(150),
    "idle_pss_mb": _at_most(1024),
}
