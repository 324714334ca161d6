"""Who watches a start: what is told while everything comes up, runs, and goes down."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from service.up.demo import DemoOutcome


@dataclass(frozen=True, slots=True)
class ShownBalance:
    """One owner's balance, as the read model has it."""

    owner_id: str
    balance: int


class Watcher(Protocol):
    """Shows a person, or a program, how the start and the stop go on."""

    def step(self, text: str) -> None:
        """A step begins."""

    def note(self, text: str) -> None:
        """Something within a step, or later on."""

    def outcomes(self, outcomes: Sequence[DemoOutcome]) -> None:
        """What became of the example app's commands."""

    def balances(self, balances: Sequence[ShownBalance]) -> None:
        """What the read model says afterwards."""

    def ready(self, url: str) -> None:
        """Everything runs."""
