"""What processes take of the machine's memory."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psutil

TENTHS: Final = 10


@dataclass(frozen=True, slots=True)
class Sample:
    """At one moment; megabytes. PSS counts what several processes share by parts, RSS in full."""

    at_s: float
    pss_mb: float
    rss_mb: float


@dataclass(frozen=True, slots=True)
class Growth:
    """From the mean of the first tenth of the samples to that of the last. RSS, because what other programs of the
    machine share with a process, and so its PSS, changes when they come and go."""

    name: str
    first_mb: float
    last_mb: float
    largest_mb: float
    first_pss_mb: float
    last_pss_mb: float

    @property
    def percent(self) -> float:
        """Above zero: it grew."""
        return 100 * (self.last_mb / self.first_mb - 1) if self.first_mb else 0.0


class MemorySampler:
    """Samples by name of process."""

    def __init__(self) -> None:
        self.samples: dict[str, list[Sample]] = defaultdict(list)

    def sample(self, name: str, pid: int | None, at_s: float, *, with_children: bool = False) -> None:
        """Look at a process now; one that is gone is left out."""
        if pid is None:
            return
        try:
            process = psutil.Process(pid)
            processes = [process, *(process.children(recursive=True) if with_children else ())]
            infos = [one.memory_full_info() for one in processes]
        except psutil.Error:
            return
        self.samples[name].append(
            Sample(at_s, sum(info.pss for info in infos) / 2**20, sum(info.rss for info in infos) / 2**20)
        )

    def growth(self, name: str, after_s: float = 0.0) -> Growth | None:
        """Over the samples after a warm-up; None when there are too few."""
        kept = [sample for sample in self.samples[name] if sample.at_s >= after_s]
        tenth = len(kept) // TENTHS
        if not tenth:
            return None
        first, last = kept[:tenth], kept[-tenth:]
        return Growth(
            name,
            _mean([sample.rss_mb for sample in first]),
            _mean([sample.rss_mb for sample in last]),
            max(sample.rss_mb for sample in kept),
            _mean([sample.pss_mb for sample in first]),
            _mean([sample.pss_mb for sample in last]),
        )

    def latest_mb(self, name: str) -> float:
        """The RSS at the last look; 0 before the first."""
        samples = self.samples[name]
        return samples[-1].rss_mb if samples else 0.0

    def largest_mb(self, name: str) -> float:
        """The largest RSS that was seen."""
        return max((sample.rss_mb for sample in self.samples[name]), default=0.0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
