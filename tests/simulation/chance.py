"""All chance of one seed: a stream for each actor, and a number for every decision to disturb, so that each can be left
out while the others stay as they are."""

from collections import Counter
from random import Random

from tests.simulation.fault_kinds import Fault


class Chance:
    """`kept` None keeps every decision; otherwise those that are not named are drawn all the same, and not done."""

    def __init__(self, seed: int, kept: frozenset[str] | None = None) -> None:
        self.made: list[str] = []
        """The numbers of what was done, in the order in which it was."""
        self.counts: Counter[Fault] = Counter()
        self._seed = seed
        self._kept = kept

    def stream(self, actor: str) -> Random:
        """The chance of one actor: what others draw does not change it."""
        return Random(f"{self._seed} {actor}")

    def keeps(self, number: str) -> bool:
        """Whether to do what is decided; asked once for each decision, when its time has come."""
        if self._kept is not None and number not in self._kept:
            return False
        self.made.append(number)
        return True

    def happened(self, fault: Fault) -> None:
        """Count a fault that was really done."""
        self.counts[fault] += 1
