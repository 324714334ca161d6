"""What was measured: named figures with one value per run, and their file."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One name, and its value in every run. Names are stable: later results are compared with earlier ones by name."""

    name: str
    unit: str
    runs: tuple[float, ...]

    @property
    def median(self) -> float:
        """The value that counts."""
        return median(self.runs)

    def as_json(self) -> dict[str, Any]:
        """As the results file holds it."""
        return {
            "name": self.name,
            "median": _rounded(self.median),
            "min": _rounded(min(self.runs)),
            "max": _rounded(max(self.runs)),
            "unit": self.unit,
            "runs": [_rounded(value) for value in self.runs],
        }


class Figures:
    """All figures of one benchmark, in the order in which they were first measured."""

    def __init__(self) -> None:
        self._units: dict[str, str] = {}
        self._values: dict[str, list[float]] = {}

    @classmethod
    def of(cls, results: Iterable[Mapping[str, Any]]) -> "Figures":
        """As a results file holds them."""
        figures = cls()
        for result in results:
            for value in result["runs"]:
                figures.add(result["name"], value, result["unit"])
        return figures

    def add(self, name: str, value: float, unit: str) -> None:
        """Take the value of one run.

        Raises:
            ValueError: the name was used with another unit.
        """
        if self._units.setdefault(name, unit) != unit:
            raise ValueError(f"{name} is measured in {self._units[name]}, not in {unit}")
        self._values.setdefault(name, []).append(value)

    def get(self, name: str) -> Figure | None:
        """The figure, or None when it was not measured."""
        values = self._values.get(name)
        return None if values is None else Figure(name, self._units[name], tuple(values))

    def __iter__(self) -> Iterator[Figure]:
        for name, values in self._values.items():
            yield Figure(name, self._units[name], tuple(values))


def write_results(path: Path, header: Mapping[str, Any], figures: Figures) -> None:
    """Write `{"header": ..., "results": [...]}`, in place of an older file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    results = {"header": dict(header), "results": [figure.as_json() for figure in figures]}
    path.write_text(json.dumps(results, indent=2) + "\n")


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed (nearest rank).

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
