"""Decides one poll's records of one partition: pure, on what is committed and on facts that were looked up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from consumers.held_partition import HeldPartition, mark_of
from ledger.broker.protocol import Record
from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.chain import event_hash, metadata_digest
from ledger.domain.command import Command
from ledger.domain.decider import decide, evolve
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from ledger.domain.position import Position
from ledger.domain.rejection import Reason, State
from ledger.domain.rules import AppRules
from ledger.event_store.keys import CommandKey, command_key, nonce_key
from ledger.event_store.protocol import (
    AccountKey,
    AppendBatch,
    ConsumedMark,
    EventRow,
    HeadAdvance,
    KeysFound,
    OffsetAdvance,
    QuarantinedRecord,
)
from ledger.messages.command_codec import Unreadable

_named: Final = tuple.__new__
"""Makes a named tuple in a third of the time that calling its class takes."""

_BALANCE_REASONS: Final = frozenset(reason for reason in Reason if reason.failed_in is State.CHECKING_BALANCE)


class DecodedRecord(msgspec.Struct, frozen=True, gc=False):
    """A record with the app whose topic carried it, and what it was read as."""

    app: str
    record: Record
    content: Command | Unreadable

    @property
    def name(self) -> str:
        """As operators name it: `app:partition:offset`."""
        return f"{self.app}:{self.record.partition}:{self.record.offset}"


class UndecidableError(Exception):
    """Deciding a record raised: a defect of the rules. `index` says which of the batch's records."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


@dataclass(slots=True)
class Facts:
    """What the record said about keys of this batch. A key that was asked for and is not found is not in the record."""

    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    commands: dict[CommandKey, Position] = field(default_factory=dict)
    nonces: dict[UUID, Position] = field(default_factory=dict)
    commands_asked: set[CommandKey] = field(default_factory=set)
    nonces_asked: set[UUID] = field(default_factory=set)

    def learn(self, commands: set[CommandKey], nonces: set[UUID], found: KeysFound) -> None:
        """Take the answer to a question about these keys."""
        self.commands_asked |= commands
        self.nonces_asked |= nonces
        self.commands.update(found.commands)
        self.nonces.update(found.nonces)


@dataclass(slots=True)
class PartitionPlan:
    """What becomes of one partition's records, if it commits."""

    held: HeldPartition
    sequence: int
    hash: bytes
    occurred_at: datetime
    consumed: int
    marks: dict[str, ConsumedMark]
    events: list[RecordedEvent] = field(default_factory=list)
    event_rows: list[EventRow] = field(default_factory=list)
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    commands: dict[CommandKey, Position] = field(default_factory=dict)
    nonces: dict[UUID, Position] = field(default_factory=dict)
    replays: list[Position] = field(default_factory=list)
    quarantine: list[QuarantinedRecord] = field(default_factory=list)
    unasked_commands: set[CommandKey] = field(default_factory=set)
    """Command ids of new rejections that nobody has looked up yet: no unique key need fire for them."""
    unasked_nonces: set[UUID] = field(default_factory=set)
    """Nonces of new rejections for want of balance: a unique key over accepted entries never fires for them."""

    def add_to(self, batch: AppendBatch, published_sequence: int) -> None:
        """Put this partition's part into the transaction of the poll."""
        held = self.held
        batch.heads.append(
            HeadAdvance(
                held.partition,
                held.epoch,
                held.sequence,
                self.sequence,
                self.hash,
                self.occurred_at if self.events else None,
                published_sequence,
                self.consumed,
            )
        )
        for app, mark in self.marks.items():
            before = held.marks.get(app)
            batch.offsets.append(
                OffsetAdvance(app, held.partition, None if before is None else before.next_offset, mark)
            )
        batch.events += self.event_rows
        batch.command_keys += [(key.command_id, key.scope, *position) for key, position in self.commands.items()]
        batch.nonce_keys += [(key, *position) for key, position in self.nonces.items()]
        batch.accounts.update(self.accounts)
        batch.quarantine += self.quarantine

    def commit(self) -> None:
        """The transaction is committed: memory follows."""
        held = self.held
        held.sequence = self.sequence
        held.hash = self.hash
        if self.events:
            held.occurred_at = self.occurred_at
        held.marks.update(self.marks)
        held.accounts.update(self.accounts.items())
        held.commands.update(self.commands.items())
        held.nonces.update(self.nonces.items())
        held.calm_noted = True


def decide_partition(
    held: HeldPartition,
    records: Sequence[DecodedRecord],
    rules: Mapping[str, AppRules],
    facts: Facts,
    now: datetime,
) -> PartitionPlan:
    """Decide these records, in their order. Changes nothing but the plan that it returns.

    Raises:
        UndecidableError: a defect; what lies before that record can still be decided alone.
    """
    occurred_at = now if held.occurred_at is None or now > held.occurred_at else held.occurred_at
    plan = PartitionPlan(held, held.sequence, held.hash, occurred_at, len(records), {})
    last: dict[str, Record] = {}
    undecided = 0
    try:
        for undecided, decoded in enumerate(records):  # noqa: B007 - where an error left it
            last[decoded.app] = decoded.record
            if isinstance(decoded.content, Unreadable):
                plan.quarantine.append(_quarantined(decoded, decoded.content, held.generations.get(decoded.app, 1)))
            else:
                _decide_command(plan, decoded.content, decoded.record.offset, rules[decoded.app], facts)
    except Exception as error:  # whatever a rule raises must neither be skipped nor stop other partitions
        raise UndecidableError(undecided) from error
    plan.marks = {app: mark_of(record) for app, record in last.items()}
    return plan


def accounts_to_load(held: HeldPartition, records: Sequence[DecodedRecord], facts: Facts) -> set[AccountKey]:
    """The accounts of these records that are not in memory yet."""
    keys = {
        _named(AccountKey, (decoded.content.owner_id, decoded.content.credit_type))
        for decoded in records
        if isinstance(decoded.content, Command)
    }
    return {key for key in keys if key not in facts.accounts and held.accounts.get(key) is None}


def _decide_command(plan: PartitionPlan, command: Command, offset: int, rules: AppRules, facts: Facts) -> None:
    held = plan.held
    key = command_key(command.app, command.owner_id, command.command_id)
    first = plan.commands.get(key) or held.commands.get(key) or facts.commands.get(key)
    if first is not None:
        # Sent again: idempotency is answered before anything else, whatever the new message says.
        plan.replays.append(first)
        return
    account_key = _named(AccountKey, (command.owner_id, command.credit_type))
    account = (
        plan.accounts.get(account_key)
        or held.accounts.get(account_key)
        or facts.accounts.get(account_key)
        or EMPTY_ACCOUNT
    )
    nonce = nonce_key(command.app, command.owner_id, command.nonce)
    used_at = plan.nonces.get(nonce) or held.nonces.get(nonce) or facts.nonces.get(nonce)
    decision = decide(command, account, rules, plan.occurred_at, used_at)
    changed = evolve(account, decision)
    position = _named(Position, (held.partition, plan.sequence + 1))
    if decision.reason is None:
        plan.accounts[account_key] = changed
        plan.nonces[nonce] = position
    else:
        if key not in facts.commands_asked:
            plan.unasked_commands.add(key)
        if decision.reason in _BALANCE_REASONS and nonce not in facts.nonces_asked:
            plan.unasked_nonces.add(nonce)
    plan.commands[key] = position
    metadata = command.metadata
    digest = None if metadata is None else metadata_digest(metadata)
    reason = None if decision.reason is None else decision.reason.value
    new_hash = event_hash(
        plan.hash,
        partition=held.partition,
        sequence=position.sequence,
        app=command.app,
        command_id=command.command_id,
        operation=command.operation,
        owner_id=command.owner_id,
        credit_type=command.credit_type,
        account_version=decision.account_version,
        amount=decision.amount,
        balance_after=decision.balance_after,
        nonce=command.nonce,
        issued_at=command.issued_at,
        occurred_at=plan.occurred_at,
        reason=reason,
        detail=decision.detail,
        metadata_digest=digest,
        command_offset=offset,
    )
    plan.event_rows.append(
        (
            held.partition,
            position.sequence,
            decision.account_version,
            decision.amount,
            decision.balance_after,
            command.issued_at,
            plan.occurred_at,
            offset,
            command.command_id,
            command.app,
            command.operation,
            command.owner_id,
            command.credit_type,
            command.nonce,
            reason,
            decision.detail,
            metadata,
            digest,
            new_hash,
        )
    )
    plan.events.append(
        RecordedEvent(
            ENTRY_POSTED if reason is None else COMMAND_REJECTED,
            held.partition,
            position.sequence,
            command.app,
            command.command_id,
            command.operation,
            command.owner_id,
            command.credit_type,
            decision.account_version,
            decision.amount,
            decision.balance_after,
            command.nonce,
            command.issued_at,
            plan.occurred_at,
            plan.hash.hex(),
            new_hash.hex(),
            None if metadata is None else msgspec.Raw(metadata.encode()),
            reason,
            decision.detail,
        )
    )
    plan.sequence = position.sequence
    plan.hash = new_hash


def _quarantined(decoded: DecodedRecord, unreadable: Unreadable, generation: int) -> QuarantinedRecord:
    record = decoded.record
    return QuarantinedRecord(
        decoded.app,
        record.partition,
        record.offset,
        record.timestamp_ms,
        unreadable.reason.value,
        unreadable.detail,
        record.key,
        record.value,
        generation,
    )
