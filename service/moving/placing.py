"""Where the events of an export lie in the new ledger, and what they are there."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.domain.account import Account
from ledger.domain.chain import GENESIS, event_hash
from ledger.domain.position import Position
from ledger.domain.rejection import Reason
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import (
    AccountKey,
    ConsumedMark,
    EventRow,
    EventStore,
    HeadAdvance,
    OffsetAdvance,
)
from ledger.messages.partitioning import partition_of
from service.archiving.lines import ArchivedEvent
from service.moving.exported_chain import where

_NOBODY_TO_COMPARE: Final = b"\0" * 16


class ImportRefusedError(Exception):
    """The export cannot become this ledger's history; the text says why, and what to do."""


@dataclass(slots=True)
class Target:
    """A partition of the new ledger, as far as it is filled."""

    partition: int
    epoch: int
    sequence: int = 0
    hash: bytes = GENESIS
    occurred_at: datetime | None = None
    offsets: dict[str, int] = field(default_factory=dict)
    """By app, the next offset of the imported log."""

    def advance(self, sequence_before: int, consumed: int) -> HeadAdvance:
        """Its head, from there to where it is now."""
        return HeadAdvance(
            self.partition,
            self.epoch,
            sequence_before,
            self.sequence,
            self.hash,
            self.occurred_at if self.sequence > sequence_before else None,
            0,
            consumed,
        )

    def consumed(self, app: str, count: int) -> OffsetAdvance:
        """The app's log went on by so many offsets, up to where it is now."""
        mark = imported_mark(self.offsets[app])
        return OffsetAdvance(app, self.partition, mark.next_offset - count, mark)


@dataclass(frozen=True, slots=True)
class Placed:
    """What a part of the export is at its new place."""

    rows: list[EventRow]
    command_keys: list[tuple[UUID, UUID, int, int]]
    nonce_keys: list[tuple[UUID, int, int]]
    accounts: dict[AccountKey, Account]
    consumed: Counter[tuple[str, int]]
    """By app and partition, how many offsets of the imported logs."""


def imported_mark(next_offset: int) -> ConsumedMark:
    """The mark of a log that no topic holds: there is no record to compare."""
    return ConsumedMark(next_offset, next_offset - 1, 0, _NOBODY_TO_COMPARE)


async def place(store: EventStore, targets: Sequence[Target], events: Sequence[ArchivedEvent]) -> Placed:
    """Give these events their places, and move the targets on; appends nothing.

    Args:
        store: the new record, which is asked for the places of nonces.
        targets: all its partitions, by number.
        events: the next ones of the export.

    Raises:
        ImportRefusedError: an event refers to one that is not there.
        StoreUnavailableError: Postgres is away.
    """
    homes = [partition_of(event.owner_id.encode(), len(targets)) for event in events]
    positions = []
    reached: Counter[int] = Counter()
    for home in homes:
        reached[home] += 1
        positions.append(Position(home, targets[home].sequence + reached[home]))
    nonces = {
        nonce_key(event.app, event.owner_id, event.nonce): position
        for event, position in zip(events, positions, strict=True)
        if event.reason is None
    }
    nonces_before = await _nonces_before(store, events, nonces)
    placed = Placed([], [], [], {}, Counter())
    for event, position in zip(events, positions, strict=True):
        target = targets[position.partition]
        detail = event.detail
        if event.reason == Reason.DUPLICATE_NONCE:
            detail = str(nonces_before[nonce_key(event.app, event.owner_id, event.nonce)])
        offset = target.offsets[event.app]
        target.hash = _hash_at(event, target.hash, position, detail, offset)
        target.sequence = position.sequence
        target.occurred_at = event.occurred_at
        target.offsets[event.app] = offset + 1
        placed.consumed[event.app, position.partition] += 1
        placed.rows.append(_row(event, position, detail, offset, target.hash))
        command = command_key(event.app, event.owner_id, event.command_id)
        placed.command_keys.append((command.command_id, command.scope, *position))
        if event.reason is None:
            account = Account(event.balance_after, event.account_version)
            placed.accounts[AccountKey(event.owner_id, event.credit_type)] = account
    placed.nonce_keys.extend((key, *position) for key, position in nonces.items())
    return placed


async def _nonces_before(
    store: EventStore, events: Sequence[ArchivedEvent], here: Mapping[UUID, Position]
) -> Mapping[UUID, Position]:
    """Where the entries lie whose nonces these events were refused for."""
    refused = {
        nonce_key(event.app, event.owner_id, event.nonce): event
        for event in events
        if event.reason == Reason.DUPLICATE_NONCE
    }
    found = dict(here)
    asked = refused.keys() - found.keys()
    if asked:
        found.update((await store.look_up([], asked)).nonces)
    for key, event in refused.items():
        if key not in found:
            raise ImportRefusedError(
                f"{where(event)} of the export was refused for a nonce that no entry before it has: its record is "
                "not sound; run `ledger verify` on the old ledger"
            )
    return found


def _hash_at(
    event: ArchivedEvent, prev_hash: bytes, position: Position, detail: str | None, command_offset: int
) -> bytes:
    """The event's hash at its new place."""
    return event_hash(
        prev_hash,
        partition=position.partition,
        sequence=position.sequence,
        app=event.app,
        command_id=event.command_id,
        operation=event.operation,
        owner_id=event.owner_id,
        credit_type=event.credit_type,
        account_version=event.account_version,
        amount=event.amount,
        balance_after=event.balance_after,
        nonce=event.nonce,
        issued_at=event.issued_at,
        occurred_at=event.occurred_at,
        reason=event.reason,
        detail=detail,
        metadata_digest=None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest),
        command_offset=command_offset,
    )


def _row(event: ArchivedEvent, position: Position, detail: str | None, command_offset: int, hash_: bytes) -> EventRow:
    """In the order of EVENT_COLUMNS."""
    return (
        *position,
        event.account_version,
        event.amount,
        event.balance_after,
        event.issued_at,
        event.occurred_at,
        command_offset,
        event.command_id,
        event.app,
        event.operation,
        event.owner_id,
        event.credit_type,
        event.nonce,
        event.reason,
        detail,
        event.metadata,
        None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest),
        hash_,
    )
