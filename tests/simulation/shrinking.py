"""Makes a failing run small: delta debugging (Zeller's ddmin) over the numbered decisions that disturbed it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tests.simulation.running import Outcome, run_seed

SHRINK_RUNS_MAX: Final = 300
"""Runs that are spent on making one failure small. A run costs about 20 ms, one that never comes to rest ten times
that."""

Run = Callable[[int, frozenset[str] | None], Outcome]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """The smallest failing run that was found."""

    outcome: Outcome
    kept: tuple[str, ...]
    of: int
    """How many decisions the run had at first."""
    runs: int

    def report(self) -> str:
        """For people: what went wrong, the short trace, and how to run exactly that again."""
        kept = ",".join(self.kept) or "-"
        return "\n".join(
            (
                f"seed {self.outcome.seed}: {self.outcome.error}",
                f"with {len(self.kept)} of {self.of} decisions (found in {self.runs} runs): {kept}",
                *self.outcome.trace,
                f"all of it:  python -m tests.simulation 1 {self.outcome.seed}",
                f"this again: python -m tests.simulation 1 {self.outcome.seed} --keep {kept}",
            )
        )


def shrink(failed: Outcome, runs_max: int = SHRINK_RUNS_MAX, run: Run = run_seed) -> Shrunk:
    """Leave out as many decisions as possible while a failure of the same kind remains."""
    found = [failed]
    runs = 0

    def still_fails(kept: list[str]) -> bool:
        nonlocal runs
        runs += 1
        outcome = run(failed.seed, frozenset(kept))
        if outcome.error is None or outcome.kind != failed.kind:
            return False
        found.append(outcome)
        return True

    kept, parts = list(failed.made), 2
    while len(kept) > 1 and runs < runs_max:
        size = max(1, len(kept) // parts)
        chunks = [kept[begin : begin + size] for begin in range(0, len(kept), size)]
        for chunk in chunks:
            if runs >= runs_max:
                break
            rest = [number for number in kept if number not in chunk]
            if still_fails(rest):
                # What was kept and yet did not happen this time need not be kept.
                done = set(found[-1].made)
                kept = [number for number in rest if number in done]
                parts = max(parts - 1, 2)
                break
        else:
            if size == 1:
                break
            parts = min(parts * 2, len(kept))
    return Shrunk(found[-1], tuple(kept), len(failed.made), runs)
