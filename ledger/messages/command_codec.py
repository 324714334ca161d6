"""Commands on the wire: the hot decoder of the ledger consumer, and the encoder of producers.

What is readable is defined here, once; `command_model` (pydantic) accepts the same bytes, which a property test shows.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from ledger.domain.command import Command
from ledger.domain.limits import (
    CREDIT_TYPE_CHARACTERS_MAX,
    DEFAULT_CREDIT_TYPE,
    NONCE_CHARACTERS_MAX,
    OPERATION_CHARACTERS_MAX,
    OWNER_ID_CHARACTERS_MAX,
)
from ledger.messages.field_names import repeated_field
from ledger.messages.metadata import metadata_error
from ledger.messages.partitioning import partition_of

DETAIL_CHARACTERS_MAX: Final = 500


class UnreadableReason(StrEnum):
    """Why a message cannot be read as a command."""

    NULL_VALUE = "NULL_VALUE"
    NOT_JSON = "NOT_JSON"
    INVALID_FIELD = "INVALID_FIELD"
    WRONG_KEY = "WRONG_KEY"
    WRONG_PARTITION = "WRONG_PARTITION"


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """What the quarantine says about a message."""

    reason: UnreadableReason
    detail: str


class CommandMessage(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """The fields of a command as they are sent. An unknown field makes it unreadable: a mistyped `amount` must not
    turn into the default."""

    command_id: UUID
    operation: Annotated[str, Meta(min_length=1, max_length=OPERATION_CHARACTERS_MAX)]
    owner_id: Annotated[str, Meta(min_length=1, max_length=OWNER_ID_CHARACTERS_MAX)]
    nonce: Annotated[str, Meta(min_length=1, max_length=NONCE_CHARACTERS_MAX)]
    issued_at: Annotated[datetime, Meta(tz=True)]
    amount: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | UnsetType = UNSET
    credit_type: Annotated[str, Meta(min_length=1, max_length=CREDIT_TYPE_CHARACTERS_MAX)] | UnsetType = UNSET
    not_after: Annotated[datetime, Meta(tz=True)] | UnsetType = UNSET
    metadata: Raw | UnsetType = UNSET


_decoder: Final = msgspec.json.Decoder(CommandMessage)
_encoder: Final = msgspec.json.Encoder()


def decode_command(
    app: str, key: bytes | None, value: bytes | None, partition: int, partitions: int
) -> Command | Unreadable:
    """Read one message of an app's command topic: a command, or why it is none. Never raises."""
    if value is None:
        return Unreadable(UnreadableReason.NULL_VALUE, "the message has no value")
    try:
        message = _decoder.decode(value)
    except msgspec.ValidationError as error:
        return _unreadable(UnreadableReason.INVALID_FIELD, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _unreadable(UnreadableReason.NOT_JSON, str(error))
    except RecursionError:
        return _unreadable(UnreadableReason.NOT_JSON, "nested too deeply")
    owner_id = message.owner_id
    credit_type = DEFAULT_CREDIT_TYPE if message.credit_type is UNSET else message.credit_type
    if "\0" in owner_id or "\0" in message.nonce or "\0" in message.operation or "\0" in credit_type:
        return _unreadable(UnreadableReason.INVALID_FIELD, "a text contains NUL")
    raw: bytes | None = None
    metadata: str | None = None
    if message.metadata is not UNSET:
        raw = bytes(message.metadata)
        error_text = metadata_error(raw)
        if error_text is not None:
            return _unreadable(UnreadableReason.INVALID_FIELD, error_text)
        metadata = raw.decode()
    if _may_repeat_a_field(value, message, raw):
        try:
            repeated = repeated_field(value)
        except (ValueError, RecursionError) as error:
            return _unreadable(UnreadableReason.NOT_JSON, f"cannot be read in full: {error}")
        if repeated is not None:
            return _unreadable(UnreadableReason.INVALID_FIELD, f"the field `{repeated}` is given twice")
    try:
        issued_at = _in_utc(message.issued_at)
        not_after = None if message.not_after is UNSET else _in_utc(message.not_after)
    except OverflowError:
        return _unreadable(UnreadableReason.INVALID_FIELD, "a time lies outside the years 1 to 9999 in UTC")
    if key is None or key != owner_id.encode():
        return _unreadable(UnreadableReason.WRONG_KEY, f"the key is {key!r}, the owner_id {owner_id!r}")
    if partition_of(key, partitions) != partition:
        return _unreadable(
            UnreadableReason.WRONG_PARTITION,
            f"the key belongs on partition {partition_of(key, partitions)} of {partitions}, not on {partition}; "
            "use murmur2 (librdkafka: partitioner=murmur2_random)",
        )
    return Command(
        app,
        message.command_id,
        message.operation,
        owner_id,
        message.nonce,
        issued_at,
        None if message.amount is UNSET else message.amount,
        credit_type,
        not_after,
        metadata,
    )


def encode_command(command: Command) -> bytes:
    """The value of the message that carries this command; its key is `owner_id` in UTF-8."""
    return _encoder.encode(
        CommandMessage(
            command.command_id,
            command.operation,
            command.owner_id,
            command.nonce,
            command.issued_at,
            UNSET if command.amount is None else command.amount,
            command.credit_type,
            UNSET if command.not_after is None else command.not_after,
            UNSET if command.metadata is None else Raw(command.metadata.encode()),
        )
    )


def _may_repeat_a_field(value: bytes, message: CommandMessage, metadata: bytes | None) -> bool:
    # msgspec takes the last of two fields of one name without a word. Every name and every text has two quotation
    # marks around it, so when there are no more than these (0.2 us; a full check takes 4) no name came twice.
    marks = 20  # five names and five texts that no command lacks
    if message.amount is not UNSET:
        marks += 2
    if message.credit_type is not UNSET:
        marks += 4
    if message.not_after is not UNSET:
        marks += 4
    if metadata is not None:
        marks += 2 + metadata.count(b'"')
    return value.count(b'"') != marks


def _in_utc(time: datetime) -> datetime:
    return time if time.tzinfo is UTC else time.astimezone(UTC)


def _unreadable(reason: UnreadableReason, detail: str) -> Unreadable:
    # The detail may quote what was sent, and Postgres stores neither NUL nor lone surrogates.
    storable = detail.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()
    return Unreadable(reason, storable[:DETAIL_CHARACTERS_MAX])
