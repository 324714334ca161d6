"""What `ledger verify` looks for, and how it says what it found."""

from enum import Enum
from typing import Final


class Check(Enum):
    """One kind of disagreement, with the invariant of docs/concepts.md that it breaks."""

    LOST = (1, "no committed event is lost, doubled or changed")
    SEQUENCE = (2, "sequences have no gap")
    CONSUMED = (3, "every consumed message has exactly one event or one quarantine row, or was a replay")
    ORDER = (4, "an owner's commands are decided in offset order, on one partition")
    NEGATIVE = (5, "no balance is below zero")
    ARITHMETIC = (6, "balance_after is the balance before plus the amount")
    KEYS = (7, "one event per command id, one accepted entry per nonce")
    READ_MODEL = (9, "a read model equals the fold of the events up to its checkpoint")
    PUBLISHED = (10, "what is published is committed, and what is committed is published, in order")
    EPOCH = (11, "only the current epoch's holder appends")
    CHAIN = (12, "the hash chain verifies from the first event to the head")

    def __init__(self, invariant: int, meaning: str) -> None:
        self.invariant: Final = invariant
        self.meaning: Final = meaning


NOT_IN_STORED_DATA: Final = {
    8: "an answer given to a client never changes: answers are not stored, but events cannot change (1, 12)",
}
"""Invariants that stored data cannot show by themselves."""


class Violation(Exception):  # noqa: N818 - it is a finding, not a failure
    """The first disagreement that was found."""

    def __init__(self, check: Check, where: str, what: str) -> None:
        """
        Args:
            check: what is broken.
            where: the position of the event, or what else names the place.
            what: what is there and what should be.
        """
        super().__init__(f"invariant {check.invariant} ({check.meaning}) is broken at {where}: {what}")
        self.check = check
        self.where = where
        self.what = what
