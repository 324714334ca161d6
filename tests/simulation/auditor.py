"""Says what is wrong with a ledger, from what went in and what came out. Written from the design, not from the code: it
shares no rule, codec or hash with the product."""

import hashlib
import json
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

RULES: dict[str, tuple[int, str, bool]] = {
    # default amount, sign, whether the caller may set it
    "DAILY_REWARD": (1, "+", False),
    "SIGNUP_CREDIT": (3, "+", False),
    "CREDIT_SPEND": (-1, "-", True),
    "CREDIT_ADD": (10, "+", True),
    "CONTENT_CREATION": (-5, "-", False),
    "CONTENT_ACCESS": (0, "0", False),
}
LARGEST = 2**53 - 1


@dataclass(frozen=True)
class Sent:
    """A record of a command topic, as Kafka took it; `readable` says whether the test sent it as a command."""

    app: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    readable: bool


@dataclass(frozen=True)
class Row:
    """A row of the event table."""

    partition: int
    sequence: int
    account_version: int
    amount: int
    balance_after: int
    issued_at: datetime
    occurred_at: datetime
    command_offset: int
    command_id: uuid.UUID
    app: str
    operation: str
    owner_id: str
    credit_type: str
    nonce: str
    reason: str | None
    detail: str | None
    metadata: str | None
    metadata_digest: bytes | None
    hash: bytes


class ViolationError(AssertionError):
    """An invariant is broken; the text says which, and where."""


def expect(truth: bool, number: int, what: str) -> None:
    if not truth:
        raise ViolationError(f"invariant {number}: {what}")


def audit_record(rows: list[Row]) -> None:
    """Invariants 2, 5, 6, 7, 12, and that every decision is the right one."""
    balances: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    nonces: dict[tuple[str, str, str], str] = {}
    commands: set[tuple[str, str, uuid.UUID]] = set()
    last: dict[int, Row] = {}
    for row in sorted(rows, key=lambda row: (row.partition, row.sequence)):
        before = last.get(row.partition)
        where = f"{row.partition}:{row.sequence}"
        expect(row.sequence == (before.sequence if before else 0) + 1, 2, f"a gap before {where}")
        expect(row.hash == _hash(before.hash if before else bytes(32), row), 12, f"the hash of {where}")
        expect(before is None or row.occurred_at >= before.occurred_at, 2, f"time goes back at {where}")
        command = (row.app, row.owner_id, row.command_id)
        expect(command not in commands, 7, f"{where} decides {command} a second time")
        commands.add(command)
        account = (row.owner_id, row.credit_type)
        balance, version = balances[account]
        wanted = _decision(row, balance, nonces)
        expect((row.reason, row.amount) == wanted, 3, f"{where} is {row.reason} {row.amount} instead of {wanted}")
        expect(row.balance_after == balance + row.amount, 6, f"the balance at {where}")
        expect(0 <= row.balance_after <= LARGEST, 5, f"the balance at {where}")
        expect(row.account_version == version + (row.reason is None), 6, f"the version at {where}")
        balances[account] = (row.balance_after, row.account_version)
        if row.reason is None:
            nonces[row.app, row.owner_id, row.nonce] = where
        last[row.partition] = row


def audit_input(sent: list[Sent], rows: list[Row], quarantine: dict[tuple[str, int, int], tuple[Any, Any]]) -> None:
    """Invariants 1, 3 and 4: every readable command has one event, at its first copy; the rest is in quarantine."""
    by_command = {(row.app, row.owner_id, row.command_id): row for row in rows}
    first: set[tuple[str, str, uuid.UUID]] = set()
    unreadable = {}
    for one in sorted(sent, key=lambda one: (one.app, one.partition, one.offset)):
        if not one.readable:
            unreadable[one.app, one.partition, one.offset] = (one.key, one.value)
            continue
        body = json.loads(one.value or b"")
        command = (one.app, body["owner_id"], uuid.UUID(body["command_id"]))
        if command in first:
            continue
        first.add(command)
        row = by_command.get(command)
        expect(row is not None, 1, f"{one.app}:{one.partition}:{one.offset} has no event")
        assert row is not None
        expect(
            (row.partition, row.command_offset) == (one.partition, one.offset),
            4,
            f"{row.partition}:{row.sequence} is decided at offset {row.command_offset} instead of {one.offset}",
        )
        expect((row.operation, row.nonce) == (body["operation"], body["nonce"]), 1, f"{command} was changed")
    expect(len(first) == len(rows), 3, f"{len(rows)} events for {len(first)} commands")
    expect(quarantine == unreadable, 3, f"quarantine {sorted(quarantine)} instead of {sorted(unreadable)}")
    offsets: dict[tuple[str, int], int] = {}
    for row in sorted(rows, key=lambda row: (row.partition, row.sequence)):
        place = (row.app, row.partition)
        expect(row.command_offset > offsets.get(place, -1), 4, f"{row.partition}:{row.sequence} is out of order")
        offsets[place] = row.command_offset


def audit_published(published: dict[int, list[bytes]], replays: dict[int, list[bytes]], rows: list[Row]) -> None:
    """Invariants 8 and 10: what is published is what is recorded, all of it, first publications in order."""
    recorded = {(row.partition, row.sequence): row.hash.hex() for row in rows}
    seen: dict[int, int] = defaultdict(int)
    for partition, values in published.items():
        for value in values:
            body = json.loads(value)
            place = (body["partition"], body["sequence"])
            expect(place[0] == partition and recorded.get(place) == body["hash"], 10, f"{place} is not recorded so")
            expect(place[1] <= seen[partition] + 1, 10, f"{place} is published after {seen[partition]}")
            seen[partition] = max(seen[partition], place[1])
    for partition in {row.partition for row in rows}:
        last = max(row.sequence for row in rows if row.partition == partition)
        expect(seen[partition] == last, 10, f"{partition} is published up to {seen[partition]} of {last}")
    for values in replays.values():
        for value in values:
            body = json.loads(value)
            expect(recorded.get((body["partition"], body["sequence"])) == body["hash"], 8, f"a changed answer: {body}")


def _decision(row: Row, balance: int, nonces: dict[tuple[str, str, str], str]) -> tuple[str | None, int]:
    if row.reason is not None and row.reason not in {
        "UNKNOWN_OPERATION",
        "INVALID_AMOUNT",
        "EXPIRED",
        "DUPLICATE_NONCE",
        "INSUFFICIENT_CREDITS",
    }:
        return "a known reason", 0
    if row.operation not in RULES or (row.app != "example-app" and row.operation.startswith("CONTENT_")):
        return "UNKNOWN_OPERATION", 0
    if row.reason in ("INVALID_AMOUNT", "EXPIRED"):
        return row.reason, 0  # what was asked for is not in the row; audited against the input where it matters
    where = nonces.get((row.app, row.owner_id, row.nonce))
    if where is not None:
        return ("DUPLICATE_NONCE" if row.detail == where else f"DUPLICATE_NONCE of {where}"), 0
    if row.reason == "INSUFFICIENT_CREDITS":
        available, needed = (int(word) for word in (row.detail or "").split() if word.isdigit())
        right = available == balance and balance < needed
        return ("INSUFFICIENT_CREDITS" if right else f"INSUFFICIENT_CREDITS at a balance of {balance}"), 0
    default, sign, settable = RULES[row.operation]
    if not settable and row.amount != default:
        return None, default
    if (row.amount > 0) != (sign == "+") or (row.amount < 0) != (sign == "-"):
        return "INVALID_AMOUNT", 0
    return (None, row.amount) if balance + row.amount >= 0 else ("INSUFFICIENT_CREDITS", 0)


def _hash(before: bytes, row: Row) -> bytes:
    def micros(time: datetime) -> str:
        return str(
            round(time.timestamp()) * 10**6
            + (time.microsecond if time.microsecond < 500_000 else time.microsecond - 10**6)
        )

    digest = hashlib.blake2b(row.metadata.encode(), digest_size=32).hexdigest() if row.metadata is not None else ""
    fields = [
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
        micros(row.issued_at),
        micros(row.occurred_at),
        row.reason or "",
        row.detail or "",
        digest,
        str(row.command_offset),
    ]
    return hashlib.blake2b(before + "\0".join(fields).encode(), digest_size=32).digest()
