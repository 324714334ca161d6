"""Invariant 9: a read model equals the fold of the events up to its checkpoint."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from tests.auditor.rows import Row
from tests.auditor.violation import expect


class Line(NamedTuple):
    """A line of an owner's statement: where, how much, and what was left."""

    partition: int
    sequence: int
    amount: int
    balance_after: int


def fold_balances(rows: Iterable[Row], checkpoints: Mapping[int, int]) -> dict[tuple[str, str], tuple[int, int]]:
    """Balance and version by (owner, credit type), of the events up to these sequences by partition."""
    balances: dict[tuple[str, str], tuple[int, int]] = {}
    for row in sorted(rows, key=lambda row: (row.partition, row.sequence)):
        if row.reason is None and row.sequence <= checkpoints.get(row.partition, 0):
            balance, version = balances.get((row.owner_id, row.credit_type), (0, 0))
            balances[row.owner_id, row.credit_type] = (balance + row.amount, version + 1)
    return balances


def fold_statements(rows: Iterable[Row], checkpoints: Mapping[int, int]) -> dict[tuple[str, str], list[Line]]:
    """The accepted entries by (owner, credit type), newest first, of the events up to these sequences."""
    lines: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.partition, -row.sequence)):
        if row.reason is None and row.sequence <= checkpoints.get(row.partition, 0):
            lines[row.owner_id, row.credit_type].append(
                Line(row.partition, row.sequence, row.amount, row.balance_after)
            )
    return dict(lines)


def audit_balances(
    rows: Iterable[Row],
    checkpoints: Mapping[int, int],
    balances: Mapping[tuple[str, str], tuple[int, int]],
) -> None:
    """The balances (with versions) that a read model shows at these checkpoints. Raises ViolationError."""
    folded = fold_balances(rows, checkpoints)
    for account in sorted(folded.keys() | balances.keys()):
        found, right = balances.get(account, (0, 0)), folded.get(account, (0, 0))
        expect(found == right, 9, f"{account} shows {found} instead of {right}")


def audit_statements(
    rows: Iterable[Row],
    checkpoints: Mapping[int, int],
    statements: Mapping[tuple[str, str], Sequence[Line]],
) -> None:
    """The statements that a read model shows at these checkpoints, newest first. Raises ViolationError."""
    folded = fold_statements(rows, checkpoints)
    for account in sorted(folded.keys() | statements.keys()):
        found, right = list(statements.get(account, [])), folded.get(account, [])
        expect(found == right, 9, f"the statement of {account} shows {found[:3]}... instead of {right[:3]}...")


class FeedAudit:
    """One version of a read model on one partition, as its transactions are committed."""

    def __init__(self, name: str, sequence: int = 0) -> None:
        self.name = name
        self.sequence = sequence
        self._claim = (0, "")

    def claimed(self, epoch: int, holder: str) -> None:
        """A claim is committed: every older holder is fenced from now on."""
        expect(epoch == self._claim[0] + 1, 11, f"{holder} claims {self.name} at epoch {epoch} after {self._claim}")
        self._claim = (epoch, holder)

    def appends(self, epoch: int, holder: str) -> None:
        """A transaction that moves the checkpoint is committed by this holder."""
        right = self._claim == (epoch, holder)
        expect(right, 11, f"{holder} moves {self.name} at epoch {epoch}, which {self._claim} holds")

    def advanced(self, hashes: Sequence[str], sequence: int, last_hash: str, rows: Sequence[Row]) -> None:
        """Events with these hashes were taken in, up to `sequence`; `rows` are those of the partition."""
        right = [row.hash.hex() for row in rows[self.sequence : sequence]]
        expect(sequence == self.sequence + len(hashes), 9, f"{self.name} goes from {self.sequence} to {sequence}")
        expect(len(right) == len(hashes), 9, f"{self.name} is at {sequence}, the record at {len(rows)}")
        expect(list(hashes) == right, 9, f"{self.name} takes in other events up to {sequence} than are recorded")
        expect(sequence == 0 or last_hash == rows[sequence - 1].hash.hex(), 9, f"{self.name} has another hash")
        self.sequence = sequence
