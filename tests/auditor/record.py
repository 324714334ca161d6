"""The record, row by row: sequences, decisions, balances, keys, the chain, who wrote, and whether anything changed."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from tests.auditor.commands import EXAMPLE_APP_OPERATIONS, LARGEST, App, Command, expected
from tests.auditor.rows import Row
from tests.auditor.violation import ViolationError, expect

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
REJECTIONS: Final = frozenset(
    (
        "UNKNOWN_OPERATION",
        "OPERATION_NOT_ALLOWED",
        "UNKNOWN_CREDIT_TYPE",
        "INVALID_AMOUNT",
        "EXPIRED",
        "DUPLICATE_NONCE",
        "INSUFFICIENT_CREDITS",
        "BALANCE_OVERFLOW",
    )
)


class RecordAudit:
    """Invariants 2, 4, 5, 6, 7, 11 and 12, and 1 as far as the record alone can show it.

    `apps` tells what each app declared; an app that is missing there declares what the example app does.
    """

    def __init__(self, apps: Mapping[str, App] | None = None) -> None:
        self.rows: dict[int, list[Row]] = defaultdict(list)
        """By partition, as they were committed; the row at index i has the sequence i + 1."""
        self.by_command: dict[tuple[str, str, UUID], Row] = {}
        self.balances: dict[tuple[str, str], tuple[int, int]] = {}
        """Balance and version by owner and credit type."""
        self._apps = apps or {}
        self._nonces: dict[tuple[str, str, str], str] = {}
        self._offsets: dict[tuple[str, int], int] = {}
        self._claims: dict[int, tuple[int, str]] = {}

    def claimed(self, partition: int, epoch: int, holder: str) -> None:
        """A claim is committed: every older holder is fenced from now on."""
        before = self._claims.get(partition, (0, ""))[0]
        expect(epoch == before + 1, 11, f"{holder} claims {partition} at epoch {epoch} after {before}")
        self._claims[partition] = (epoch, holder)

    def appends(self, partition: int, epoch: int, holder: str) -> None:
        """A transaction that moves this partition is committed by this holder (invariant 11)."""
        held = self._claims.get(partition)
        expect(held == (epoch, holder), 11, f"{holder} appends to {partition} at epoch {epoch}, which {held} holds")

    def committed(self, row: Row, command: Command | None = None) -> None:
        """The next row of its partition is committed; `command` is what lies at its offset, where that is known."""
        rows = self.rows[row.partition]
        before = rows[-1] if rows else None
        expect(row.sequence == len(rows) + 1, 2, f"{row.place} after {before.place if before else 'nothing'}")
        expect(row.hash == event_hash(before.hash if before else bytes(32), row), 12, f"the hash of {row.place}")
        expect(before is None or row.occurred_at >= before.occurred_at, 2, f"time goes back at {row.place}")
        place = (row.app, row.partition)
        offset = self._offsets.get(place, -1)
        expect(row.command_offset > offset, 4, f"{row.place} decides offset {row.command_offset} after {offset}")
        self._offsets[place] = row.command_offset
        key = (row.app, row.owner_id, row.command_id)
        expect(key not in self.by_command, 7, f"{row.place} decides {key} a second time")
        self.by_command[key] = row
        self._decided(row, command)
        rows.append(row)

    def unchanged(self, rows: Iterable[Row]) -> None:
        """Invariant 1: these are all the rows that were ever seen committed, and as they were."""
        held: dict[int, list[Row]] = defaultdict(list)
        for row in rows:
            held[row.partition].append(row)
        for partition in self.rows.keys() | held.keys():
            seen, found = self.rows[partition], sorted(held[partition], key=lambda row: row.sequence)
            expect(len(found) >= len(seen), 1, f"{partition} had {len(seen)} events and has {len(found)}")
            expect(len(found) == len(seen), 1, f"{partition} has {len(found)} events, {len(seen)} were committed")
            for before, now in zip(seen, found, strict=True):
                expect(before == now, 1, f"{before.place} was {before} and is {now}")

    def _decided(self, row: Row, command: Command | None) -> None:
        account = (row.owner_id, row.credit_type)
        balance, version = self.balances.get(account, (0, 0))
        nonce_used_at = self._nonces.get((row.app, row.owner_id, row.nonce))
        app = self._apps.get(row.app) or App(EXAMPLE_APP_OPERATIONS)
        if command is None:
            _check_alone(row, app, balance, nonce_used_at)
        else:
            _check_against(row, command, app, balance, nonce_used_at)
        expect(row.balance_after == balance + row.amount, 6, f"the balance at {row.place}")
        expect(0 <= row.balance_after <= LARGEST, 5, f"the balance at {row.place}: {row.balance_after}")
        expect(row.account_version == version + (row.reason is None), 6, f"the version at {row.place}")
        self.balances[account] = (row.balance_after, row.account_version)
        if row.reason is None:
            expect(nonce_used_at is None, 7, f"{row.place} uses the nonce of {nonce_used_at}")
            self._nonces[row.app, row.owner_id, row.nonce] = row.place


def audit_record(rows: Iterable[Row], apps: Mapping[str, App] | None = None) -> RecordAudit:
    """A whole record at once; what was learned of it. Raises ViolationError."""
    audit = RecordAudit(apps)
    for row in sorted(rows, key=lambda row: (row.partition, row.sequence)):
        audit.committed(row)
    return audit


def event_hash(before: bytes, row: Row) -> bytes:
    """The hash that a row must have behind the row with the hash `before`."""
    digest = hashlib.blake2b(row.metadata.encode(), digest_size=32).digest() if row.metadata is not None else b""
    if row.metadata is None and row.metadata_digest is not None:
        digest = row.metadata_digest  # the metadata was erased; its digest stays
    fields = (
        "1",
        str(row.partition),
        str(row.sequence),
        row.app,
        row.command_id.hex,
        row.operation,
        row.owner_id,
        row.credit_type,
        str(row.account_version),
        str(row.amount),
        str(row.balance_after),
        row.nonce,
        str((row.issued_at - _EPOCH) // _MICROSECOND),
        str((row.occurred_at - _EPOCH) // _MICROSECOND),
        row.reason or "",
        row.detail or "",
        digest.hex(),
        str(row.command_offset),
    )
    return hashlib.blake2b(before + "\0".join(fields).encode(), digest_size=32).digest()


def _check_against(row: Row, command: Command, app: App, balance: int, nonce_used_at: str | None) -> None:
    same = (row.command_id, row.operation, row.owner_id, row.credit_type, row.nonce, row.issued_at)
    asked = (command.command_id, command.operation, command.owner_id, command.credit_type, command.nonce)
    if same != (*asked, command.issued_at):
        raise ViolationError(f"invariant 1: {row.place} is not what was sent: {row} for {command}")
    expect((row.metadata is not None) == command.metadata, 1, f"the metadata of {row.place}")
    outcomes = expected(command, app, balance, row.occurred_at, nonce_used_at)
    found = (row.reason, row.amount)
    for outcome in outcomes:
        if found == (outcome.reason, outcome.amount) and outcome.detail in (None, row.detail):
            return
    raise ViolationError(f"invariant 3: {row.place} is {found} ({row.detail}) instead of {outcomes} for {command}")


def _check_alone(row: Row, app: App, balance: int, nonce_used_at: str | None) -> None:
    """What a row shows without the command: what was asked for is not in it."""
    where, rule = row.place, app.operations.get(row.operation)
    if row.reason is not None:
        expect(row.reason in REJECTIONS and row.amount == 0, 3, f"{where} is {row.reason} with {row.amount}")
        unknown = row.reason == "UNKNOWN_OPERATION"
        expect(unknown == (rule is None) or row.operation in app.sometimes_unknown, 3, f"{where} is {row.reason}")
        if row.reason == "DUPLICATE_NONCE":
            expect(row.detail == nonce_used_at, 3, f"{where} names {row.detail} instead of {nonce_used_at}")
        if row.reason == "INSUFFICIENT_CREDITS":
            available, needed = (int(word) for word in (row.detail or "").split() if word.isdigit())
            expect(available == balance < needed, 3, f"{where} says {row.detail} at a balance of {balance}")
        return
    expect(rule is not None, 3, f"{where} accepts the unknown {row.operation}")
    assert rule is not None
    sign = "+" if row.amount > 0 else "-" if row.amount < 0 else "0"
    expect(
        sign == rule.sign and (rule.settable or row.amount == rule.default) and abs(row.amount) <= rule.largest,
        3,
        f"{where} accepts {row.amount} for {row.operation}",
    )
