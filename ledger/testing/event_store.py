"""The record in memory: `EventStore` without Postgres, for simulations and fast tests.

Every `InMemoryEventStore` is one process's connection to a shared `InMemoryRecord`. A call takes effect at one instant
between its two steps, as a transaction does at its COMMIT; a fault is injected by an exception raised in a step.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.domain.account import Account
from ledger.domain.chain import GENESIS
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.keys import CommandKey
from ledger.event_store.protocol import (
    EVENT_COLUMNS,
    AccountKey,
    Alive,
    AppendBatch,
    Appended,
    AppendResult,
    Claim,
    CommitOutcomeUnknownError,
    ConsumedMark,
    EventRow,
    Fenced,
    ForeignLedgerError,
    Halt,
    Head,
    HeadAdvance,
    Identity,
    KeysFound,
    KeyTaken,
    QuarantinedRecord,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.event_store.rows import recorded_event

Step = Callable[[str], Awaitable[None]]
"""Awaited with the name of a call before its effect (`append`) and after it (`append done`).

StoreUnavailableError raised before: nothing happened. Raised after: it did, and the answer is lost, which for an append
reaches the caller as CommitOutcomeUnknownError. Waiting in a step is a process that is slow or frozen.
"""

_HASH: Final = EVENT_COLUMNS.index("hash")
_PARTITION: Final = EVENT_COLUMNS.index("partition")
_SEQUENCE: Final = EVENT_COLUMNS.index("sequence")


@dataclass(slots=True)
class PartitionHead:
    """The fence of one partition, and where its record ends."""

    epoch: int = 0
    holder: str | None = None
    sequence: int = 0
    hash: bytes = GENESIS
    occurred_at: datetime | None = None
    published_sequence: int = 0
    consumed: int = 0
    consumed_at_claim: int | None = None
    trying: str | None = None
    trying_claims: int = 0
    halted_because: str | None = None
    halted_record: str | None = None
    halted_apps: Mapping[str, str] | None = None


@dataclass(slots=True)
class InMemoryRecord:
    """What Postgres holds. `clock` is the record's own clock, in UTC; `identity` None means not yet initialised."""

    identity: Identity | None
    clock: Callable[[], datetime]
    heads: dict[int, PartitionHead] = field(default_factory=dict)
    events: dict[int, list[EventRow]] = field(default_factory=dict)
    """By partition; the row at index i has the sequence i + 1."""
    command_keys: dict[tuple[UUID, UUID], Position] = field(default_factory=dict)
    nonce_keys: dict[UUID, Position] = field(default_factory=dict)
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    offsets: dict[tuple[str, int], ConsumedMark] = field(default_factory=dict)
    quarantine: dict[tuple[str, int, int], QuarantinedRecord] = field(default_factory=dict)

    @classmethod
    def initialised(cls, ledger_id: UUID, partitions: int, clock: Callable[[], datetime]) -> "InMemoryRecord":
        """An empty record of a ledger of so many partitions."""
        return cls(
            Identity(ledger_id, partitions),
            clock,
            heads={partition: PartitionHead() for partition in range(partitions)},
            events={partition: [] for partition in range(partitions)},
        )

    def backup(self) -> "InMemoryRecord":
        """A copy of the whole record as it is now, on the same clock: what an operator could restore later."""
        return InMemoryRecord(
            self.identity,
            self.clock,
            {partition: copy(head) for partition, head in self.heads.items()},
            {partition: list(rows) for partition, rows in self.events.items()},
            dict(self.command_keys),
            dict(self.nonce_keys),
            dict(self.accounts),
            dict(self.offsets),
            dict(self.quarantine),
        )


async def no_fault(what: str) -> None:
    """The step of a connection on which nothing goes wrong."""


class InMemoryEventStore:
    """`EventStore` of one process on a shared record. Assign `record` to swap the database under the process."""

    def __init__(self, record: InMemoryRecord, step: Step = no_fault) -> None:
        self.record = record
        self._step = step
        self._identity: Identity | None = None

    async def identity(self) -> Identity:
        """See EventStore. Checked against what this process saw first: a database can be swapped under a ledger."""
        await self._step("identity")
        return self._check_identity()

    async def claim(self, partition: int, holder: str, if_epoch: int | None = None) -> Claim | None:
        """See EventStore."""
        await self._step("claim")
        self._check_identity()
        claim = self._claim(partition, holder, if_epoch)
        await self._step("claim done")
        return claim

    async def append(self, batch: AppendBatch) -> AppendResult:
        """See EventStore."""
        await self._step("append")
        self._check_identity()
        result = self._append(batch)
        try:
            await self._step("append done")
        except StoreUnavailableError as error:
            if isinstance(result, Appended):
                raise CommitOutcomeUnknownError(f"the connection broke during COMMIT: {error}") from error
            raise
        return result

    async def look_up(self, commands: Collection[CommandKey], nonces: Collection[UUID]) -> KeysFound:
        """See EventStore."""
        await self._step("look_up")
        self._check_identity()
        taken_commands, taken_nonces = self.record.command_keys, self.record.nonce_keys
        found = KeysFound(
            {key: taken_commands[key] for key in commands if key in taken_commands},
            {key: taken_nonces[key] for key in nonces if key in taken_nonces},
        )
        await self._step("look_up done")
        return found

    async def load_accounts(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Account]:
        """See EventStore."""
        await self._step("load_accounts")
        self._check_identity()
        accounts = self.record.accounts
        found = {key: accounts[key] for key in keys if key in accounts}
        await self._step("load_accounts done")
        return found

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """See EventStore."""
        await self._step("read_events")
        self._check_identity()
        rows = self.record.events.get(partition, [])
        events = [self._event(rows, sequence) for sequence in range(after + 1, min(after + limit, len(rows)) + 1)]
        await self._step("read_events done")
        return events

    async def read_events_at(self, positions: Collection[Position]) -> Mapping[Position, RecordedEvent]:
        """See EventStore."""
        await self._step("read_events_at")
        self._check_identity()
        events = {}
        for position in positions:
            rows = self.record.events.get(position.partition, [])
            if 1 <= position.sequence <= len(rows):
                events[position] = self._event(rows, position.sequence)
        await self._step("read_events_at done")
        return events

    async def note_published(self, partition: int, epoch: int, sequence: int) -> None:
        """See EventStore."""
        await self._step("note_published")
        head = self._held(partition, epoch)
        if head is not None and head.sequence >= sequence:
            head.published_sequence = max(head.published_sequence, sequence)
        await self._step("note_published done")

    async def note_alive(self, partitions: Mapping[int, int]) -> Alive:
        """See EventStore."""
        await self._step("note_alive")
        held = frozenset(partition for partition, epoch in partitions.items() if self._held(partition, epoch))
        heads = self.record.heads
        free = {partition for partition in partitions if partition in heads and heads[partition].holder is None}
        alive = Alive(held, frozenset(free - held), self.record.clock() if partitions.keys() & heads.keys() else None)
        await self._step("note_alive done")
        return alive

    async def read_heads(self, partitions: Collection[int]) -> Mapping[int, Head]:
        """See EventStore."""
        await self._step("read_heads")
        self._check_identity()
        known = {partition: self.record.heads[partition] for partition in partitions if partition in self.record.heads}
        heads = {partition: Head(head.epoch, head.sequence, head.hash) for partition, head in known.items()}
        await self._step("read_heads done")
        return heads

    async def note_trying(self, partition: int, epoch: int, trying: str) -> int | None:
        """See EventStore."""
        await self._step("note_trying")
        claims = None
        head = self._held(partition, epoch)
        if head is not None:
            claims = head.trying_claims + 1 if head.trying == trying else 1
            head.trying, head.trying_claims = trying, claims
        await self._step("note_trying done")
        return claims

    async def note_calm(self, partitions: Mapping[int, int], *, release: bool = False) -> None:
        """See EventStore."""
        await self._step("note_calm")
        for partition, epoch in partitions.items():
            head = self._held(partition, epoch)
            if head is not None:
                head.consumed_at_claim, head.trying, head.trying_claims = None, None, 0
                if release:
                    head.holder = None
        await self._step("note_calm done")

    async def note_halted(self, partition: int, epoch: int, halt: Halt) -> None:
        """See EventStore."""
        await self._step("note_halted")
        head = self._held(partition, epoch)
        if head is not None:
            head.halted_because, head.halted_record = halt.because, halt.record
            head.halted_apps = dict(halt.apps) or None
        await self._step("note_halted done")

    def _check_identity(self) -> Identity:
        found = self.record.identity
        if found is None and self._identity is not None:
            raise ForeignLedgerError(self._identity.ledger_id, None)
        if found is None:
            raise RecordMismatchError("no ledger has been set up in this record")
        if self._identity is None:
            self._identity = found
        elif found.ledger_id != self._identity.ledger_id:
            raise ForeignLedgerError(self._identity.ledger_id, found.ledger_id)
        elif found != self._identity:
            raise RecordMismatchError(f"this process began with {self._identity} and now finds {found}")
        return found

    def _held(self, partition: int, epoch: int) -> PartitionHead | None:
        self._check_identity()
        head = self.record.heads.get(partition)
        return head if head is not None and head.epoch == epoch else None

    def _claim(self, partition: int, holder: str, if_epoch: int | None) -> Claim | None:
        head = self.record.heads.get(partition)
        if head is None or (if_epoch is not None and head.epoch != if_epoch):
            if if_epoch is None:
                raise RecordMismatchError(f"the record has no partition {partition}")
            return None
        same_position = head.consumed_at_claim == head.consumed
        head.epoch += 1
        head.holder = holder
        head.consumed_at_claim = head.consumed
        head.halted_because = head.halted_record = head.halted_apps = None
        return Claim(
            partition=partition,
            epoch=head.epoch,
            sequence=head.sequence,
            hash=head.hash,
            occurred_at=head.occurred_at,
            published_sequence=head.published_sequence,
            consumed=head.consumed,
            marks={app: mark for (app, place), mark in self.record.offsets.items() if place == partition},
            clock=self.record.clock(),
            same_position_as_last_claim=same_position,
            trying=head.trying,
            trying_claims=head.trying_claims,
        )

    def _append(self, batch: AppendBatch) -> AppendResult:
        # Everything is checked before anything is changed: that is the whole transaction. The order is Postgres's.
        heads = self.record.heads
        lost = frozenset(
            advance.partition
            for advance in batch.heads
            if advance.partition not in heads or heads[advance.partition].epoch != advance.epoch
        )
        if lost:
            return Fenced(lost)
        rows_by_partition = self._checked_rows(batch)
        self._check_offsets(batch)
        command_keys = {(key, scope): Position(place, number) for key, scope, place, number in batch.command_keys}
        nonce_keys = {key: Position(place, number) for key, place, number in batch.nonce_keys}
        if (
            len(command_keys) != len(batch.command_keys)
            or len(nonce_keys) != len(batch.nonce_keys)
            or not self.record.command_keys.keys().isdisjoint(command_keys)
            or not self.record.nonce_keys.keys().isdisjoint(nonce_keys)
        ):
            return KeyTaken()
        self._check_accounts(batch)
        quarantine = {(row.app, row.partition, row.command_offset): row for row in batch.quarantine}
        if len(quarantine) != len(batch.quarantine) or not self.record.quarantine.keys().isdisjoint(quarantine):
            raise RecordMismatchError("a row of this batch exists already in the quarantine")

        for advance in batch.heads:
            _advance(heads[advance.partition], advance)
        for partition, rows in rows_by_partition.items():
            self.record.events[partition].extend(rows)
        for offset in batch.offsets:
            self.record.offsets[offset.app, offset.partition] = offset.mark
        self.record.command_keys.update(command_keys)
        self.record.nonce_keys.update(nonce_keys)
        self.record.accounts.update(batch.accounts)
        self.record.quarantine.update(quarantine)
        return Appended(self.record.clock())

    def _checked_rows(self, batch: AppendBatch) -> dict[int, list[EventRow]]:
        if len({advance.partition for advance in batch.heads}) != len(batch.heads):
            raise RecordMismatchError("a batch names a partition twice")
        if len(batch.events) != len(batch.command_keys):
            raise RecordMismatchError(f"{len(batch.events)} events with {len(batch.command_keys)} command keys")
        rows: dict[int, list[EventRow]] = {advance.partition: [] for advance in batch.heads}
        for row in batch.events:
            partition = row[_PARTITION]
            if not isinstance(partition, int) or partition not in rows:
                raise RecordMismatchError(f"an event on partition {partition}, whose head the batch does not move")
            rows[partition].append(row)
        for advance in batch.heads:
            if self.record.heads[advance.partition].sequence != advance.sequence_before:
                raise RecordMismatchError(
                    f"partition {advance.partition} stands at {self.record.heads[advance.partition].sequence}, "
                    f"this process knows {advance.sequence_before}"
                )
            wanted = list(range(advance.sequence_before + 1, advance.sequence + 1))
            if [row[_SEQUENCE] for row in rows[advance.partition]] != wanted:
                raise RecordMismatchError(f"the events of partition {advance.partition} are not what its head says")
        return rows

    def _check_offsets(self, batch: AppendBatch) -> None:
        seen = set()
        for app, partition, expected, _mark in batch.offsets:
            mark = self.record.offsets.get((app, partition))
            if (app, partition) in seen or expected != (None if mark is None else mark.next_offset):
                raise RecordMismatchError(f"the offset of {app} on partition {partition} is not {expected}")
            seen.add((app, partition))

    def _check_accounts(self, batch: AppendBatch) -> None:
        for key, account in batch.accounts.items():
            known = self.record.accounts.get(key)
            if (known is not None and account.version <= known.version) or account.balance < 0:
                raise RecordMismatchError(f"the account {key} cannot go from {known} to {account}")

    @staticmethod
    def _event(rows: Sequence[EventRow], sequence: int) -> RecordedEvent:
        row = dict(zip(EVENT_COLUMNS, rows[sequence - 1], strict=True))
        prev_hash = rows[sequence - 2][_HASH] if sequence > 1 else GENESIS
        assert isinstance(prev_hash, bytes)
        return recorded_event(row, prev_hash)


def _advance(head: PartitionHead, advance: HeadAdvance) -> None:
    head.sequence = advance.sequence
    head.hash = advance.hash
    head.occurred_at = advance.occurred_at or head.occurred_at
    head.published_sequence = max(head.published_sequence, advance.published_sequence)
    head.consumed += advance.consumed
    head.trying, head.trying_claims = None, 0
