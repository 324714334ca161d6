"""Records of a test's own making, as exports: random histories, chained as the ledger chains them."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.chain import GENESIS, event_hash, metadata_digest
from ledger.domain.command import Command
from ledger.domain.decider import decide, evolve
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED
from ledger.domain.position import Position
from ledger.domain.rules import AppRules, OperationRule, Sign
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.messages.partitioning import partition_of
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from service.archiving.lines import ArchivedEvent
from service.moving.export_files import (
    FORMAT,
    FORMAT_VERSION,
    ExportedFile,
    ExportedHead,
    Manifest,
    QuarantinedLine,
)

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)
OLD_LEDGER, NEW_LEDGER = UUID(int=1), UUID(int=2)
APPS = ("bank", "shop")
RULES = {
    app: AppRules(
        app,
        {"MOVE": OperationRule(1, Sign.ANY, caller_sets_amount=True), "VISIT": OperationRule(0, Sign.ZERO)},
        frozenset({"MOVE", "VISIT"}),
        frozenset({"credits", "points"}),
    )
    for app in APPS
}


@dataclass
class OldRecord:
    """A record of N partitions, decided one command after another; `exported` is all of it, as an export has it."""

    partitions: int
    by_partition: dict[int, list[ArchivedEvent]] = field(default_factory=dict)
    accounts: dict[tuple[str, str], Account] = field(default_factory=dict)
    nonces: dict[tuple[str, str, str], Position] = field(default_factory=dict)
    known: set[tuple[str, str, UUID]] = field(default_factory=set)

    def take(self, command: Command, occurred_at: datetime) -> None:
        """Record the command, unless it was sent before."""
        identity = (command.app, command.owner_id, command.command_id)
        if identity in self.known:
            return
        self.known.add(identity)
        partition = partition_of(command.owner_id.encode(), self.partitions)
        events = self.by_partition.setdefault(partition, [])
        occurred_at = max(occurred_at, events[-1].occurred_at) if events else occurred_at
        account_key = (command.owner_id, command.credit_type)
        account = self.accounts.get(account_key, EMPTY_ACCOUNT)
        nonce = (command.app, command.owner_id, command.nonce)
        decided = decide(command, account, RULES[command.app], occurred_at, self.nonces.get(nonce))
        self.accounts[account_key] = evolve(account, decided)
        position = Position(partition, len(events) + 1)
        if decided.reason is None:
            self.nonces[nonce] = position
        digest = None if command.metadata is None else metadata_digest(command.metadata).hex()
        event = ArchivedEvent(
            type=ENTRY_POSTED if decided.reason is None else COMMAND_REJECTED,
            partition=position.partition,
            sequence=position.sequence,
            app=command.app,
            command_id=command.command_id,
            operation=command.operation,
            owner_id=command.owner_id,
            credit_type=command.credit_type,
            account_version=decided.account_version,
            amount=decided.amount,
            balance_after=decided.balance_after,
            nonce=command.nonce,
            issued_at=command.issued_at,
            occurred_at=occurred_at,
            reason=None if decided.reason is None else decided.reason.value,
            detail=decided.detail,
            metadata=command.metadata,
            metadata_digest=digest,
            command_offset=len(events) * 3,
            prev_hash="",
            hash="",
        )
        events.append(chained(event, events[-1] if events else None))

    @property
    def exported(self) -> list[ArchivedEvent]:
        """Every event, in the order in which they happened."""
        everything = [event for events in self.by_partition.values() for event in events]
        return sorted(everything, key=lambda event: (event.occurred_at, event.partition, event.sequence))

    @property
    def manifest(self) -> Manifest:
        """As the export's last file tells it; without files."""
        nothing = ExportedFile("none", 0, hashlib.sha256(b"").hexdigest())
        heads = []
        for partition in range(self.partitions):
            events = self.by_partition.get(partition, [])
            heads.append(ExportedHead(partition, len(events), events[-1].hash if events else GENESIS.hex()))
        count = sum(head.sequence for head in heads)
        return Manifest(
            FORMAT,
            FORMAT_VERSION,
            OLD_LEDGER,
            self.partitions,
            BEGAN,
            count,
            list(APPS),
            heads,
            [ExportedFile("events-000001.jsonl.gz", count, "")],
            nothing,
            nothing,
        )


def chained(event: ArchivedEvent, before: ArchivedEvent | None) -> ArchivedEvent:
    """The event with the hash that it has behind the one before it."""
    prev_hash = GENESIS.hex() if before is None else before.hash
    hashed = {name: getattr(event, name) for name in event.__struct_fields__}
    for name in ("type", "prev_hash", "hash", "metadata"):
        del hashed[name]
    digest = hashed.pop("metadata_digest")
    found = event_hash(
        bytes.fromhex(prev_hash), **hashed, metadata_digest=None if digest is None else bytes.fromhex(digest)
    )
    return msgspec.structs.replace(event, prev_hash=prev_hash, hash=found.hex())


def old_record(partitions: int, commands: Iterable[Command], steps: Sequence[int] = ()) -> OldRecord:
    """A record of these commands; `steps`: microseconds between them, by turns (some may be 0)."""
    record = OldRecord(partitions)
    now = BEGAN
    for number, command in enumerate(commands):
        now += timedelta(microseconds=steps[number % len(steps)] if steps else 1)
        record.take(command, now)
    return record


def new_record(partitions: int) -> InMemoryRecord:
    """A new ledger's record, empty."""
    return InMemoryRecord.initialised(NEW_LEDGER, partitions, lambda: datetime.now(UTC))


def store_of(record: InMemoryRecord) -> InMemoryEventStore:
    """A connection to it."""
    return InMemoryEventStore(record)


def rows_of(record: InMemoryRecord, partition: int) -> list[dict[str, object]]:
    """The events of a partition, by column name."""
    return [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in record.events[partition]]


def waiting_line(app: str, partition: int, offset: int, key: bytes | None, status: str = "waiting") -> QuarantinedLine:
    """A message in quarantine."""
    return QuarantinedLine(app, partition, 1, offset, 7, BEGAN, "NOT_JSON", "no", status, key, b"\xff\x00")


def run(coroutine: object) -> object:
    """Run it to its end."""
    return asyncio.run(coroutine)  # type: ignore[arg-type]
