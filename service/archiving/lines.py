"""One archived event: a line of JSON with everything that its hash covers."""

from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec

from ledger.domain.chain import event_hash, metadata_digest
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED
from ledger.event_store.rows import recorded_event


class ArchivedEvent(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An event as a line tells it: the fields of the message on `ledger.events`, and what else its hash covers.

    No field is ever left out, so that a reader that guesses types from some lines guesses right. `metadata` is the text
    that was sent, as text and not as an object: its digest is over that text, which may even hold line breaks.
    """

    type: str
    partition: int
    sequence: int
    app: str
    command_id: UUID
    operation: str
    owner_id: str
    credit_type: str
    account_version: int
    amount: int
    balance_after: int
    nonce: str
    issued_at: datetime
    occurred_at: datetime
    reason: str | None
    detail: str | None
    metadata: str | None
    metadata_digest: str | None
    command_offset: int
    prev_hash: str
    hash: str


class UnreadableLineError(ValueError):
    """A line is no archived event."""


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(ArchivedEvent)


def archived_event(row: Any, prev_hash: bytes) -> ArchivedEvent:
    """A row of the event table (a mapping by column name), behind the event with this hash."""
    event = recorded_event(row, prev_hash)
    digest = row["metadata_digest"]
    return ArchivedEvent(
        event.type,
        event.partition,
        event.sequence,
        event.app,
        event.command_id,
        event.operation,
        event.owner_id,
        event.credit_type,
        event.account_version,
        event.amount,
        event.balance_after,
        event.nonce,
        event.issued_at,
        event.occurred_at,
        event.reason,
        event.detail,
        row["metadata"],
        None if digest is None else digest.hex(),
        row["command_offset"],
        event.prev_hash,
        event.hash,
    )


def encode_line(event: ArchivedEvent) -> bytes:
    """The event as its line, with the line's end."""
    return _encoder.encode(event) + b"\n"


def decode_line(line: bytes) -> ArchivedEvent:
    """Read a line.

    Raises:
        UnreadableLineError: it is none.
    """
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableLineError(str(error)) from error


def what_is_wrong(event: ArchivedEvent, partition: int, sequence: int, prev_hash: str) -> str | None:
    """Why this cannot be the event at this place, behind the one with this hash; None when it is.

    Everything is computed again from the fields, so that nothing of what a line says of itself is believed.
    """
    if (event.partition, event.sequence) != (partition, sequence):
        return f"the event {event.partition}:{event.sequence} stands there"
    if event.prev_hash != prev_hash:
        return f"it follows {event.prev_hash}, but the event before it has hash {prev_hash}"
    if event.metadata is not None and metadata_digest(event.metadata).hex() != event.metadata_digest:
        return "its metadata do not have the digest that was recorded"
    if (event.type == ENTRY_POSTED) != (event.reason is None) or event.type not in (ENTRY_POSTED, COMMAND_REJECTED):
        return f"its type {event.type!r} is not that of an event with the reason {event.reason!r}"
    try:
        computed = event_hash(
            bytes.fromhex(prev_hash),
            partition=event.partition,
            sequence=event.sequence,
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
            detail=event.detail,
            metadata_digest=None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest),
            command_offset=event.command_offset,
        ).hex()
    except (ValueError, TypeError) as error:  # a digest that is no hexadecimal text, a time without a zone
        return f"it cannot be hashed: {error}"
    if computed != event.hash:
        return f"its fields and the event before it give hash {computed}, it says {event.hash}: one of them was changed"
    return None
