"""What an operator does with messages in quarantine: publish them again, mended, or discard them with a reason.

A retry is published first and recorded then: after a crash between the two it can be retried again, because a command
id is decided once. The record of what was done names the operator.
"""

from dataclasses import dataclass
from uuid import UUID

import asyncpg
import msgspec

from ledger.broker.protocol import OutgoingRecord
from ledger.event_store.identity import read_identity
from ledger.event_store.quarantine import Quarantined, QuarantineId, read_quarantined, resolve_quarantined
from ledger.messages.command_codec import CommandMessage, Unreadable, decode_command
from ledger.messages.partitioning import partition_of
from service.wiring import Wiring


class QuarantineError(Exception):
    """It cannot be done; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Retried:
    """Where a message went."""

    quarantined: Quarantined
    topic: str
    partition: int
    offset: int


async def find_waiting(connection: asyncpg.Connection, wanted: QuarantineId) -> Quarantined:
    """The message of this id.

    Raises:
        QuarantineError: there is none, or something was done about it already.
    """
    found = await read_quarantined(connection, wanted)
    if found is None:
        raise QuarantineError(f"there is no message {wanted} in quarantine; see `ledger quarantine list --all`")
    if found.status != "waiting":
        raise QuarantineError(f"{wanted} was {found.status} already at {found.resolved_at}: {found.resolution}")
    return found


async def retry_quarantined(
    connection: asyncpg.Connection, wiring: Wiring, wanted: QuarantineId, operator: str, value: bytes | None = None
) -> Retried:
    """Publish a message again on the command topic of its app, with the key and on the partition that are right.

    Args:
        connection: of a role that may resolve (`ledger_owner`).
        wiring: makes the publisher.
        wanted: which message.
        operator: who does it.
        value: what is published instead of the original value.

    Raises:
        QuarantineError: it would only land in quarantine again, or it does not wait.
        BrokerUnavailableError, PublishError: Kafka is away; nothing was recorded.
    """
    found = await find_waiting(connection, wanted)
    partitions = (await read_identity(connection)).partitions
    mended = found.value if value is None else value
    key, partition, command_id = _address(found, mended, partitions)
    topic = wiring.topics.commands(found.app)
    publisher = wiring.publisher()
    await publisher.start()
    try:
        assert mended is not None
        offset = await publisher.publish(topic, partition, [OutgoingRecord(key, mended)])
    finally:
        await publisher.stop()
    with_what = "with another value" if value is not None else "as it was"
    resolution = f"published again {with_what} at {topic}:{partition}:{offset} by {operator}"
    if not await resolve_quarantined(connection, wanted, "retried", resolution, command_id):
        raise QuarantineError(
            f"{wanted} was {resolution}, but somebody else resolved it at the same moment; the ledger decides the "
            "command once"
        )
    return Retried(found, topic, partition, offset)


async def discard_quarantined(
    connection: asyncpg.Connection, wanted: QuarantineId, operator: str, reason: str
) -> Quarantined:
    """Record that nothing will be done about a message. It stays where it is, as a record.

    Raises:
        QuarantineError: there is none, or something was done about it already.
    """
    found = await find_waiting(connection, wanted)
    if not await resolve_quarantined(connection, wanted, "discarded", f"{reason} (by {operator})"):
        raise QuarantineError(f"somebody else resolved {wanted} at this moment; see `ledger quarantine show {wanted}`")
    return found


def _address(found: Quarantined, value: bytes | None, partitions: int) -> tuple[bytes, int, UUID]:
    """The right key and partition of a value, and its command id; refused where the ledger could not read it either."""
    try:
        owner_id = msgspec.json.decode(value or b"", type=CommandMessage).owner_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = "the message has no value" if value is None else str(error)
        raise QuarantineError(f"{found.id} {_again(why, found.id)}") from error
    key = owner_id.encode()
    partition = partition_of(key, partitions)
    decoded = decode_command(found.app, key, value, partition, partitions)
    if isinstance(decoded, Unreadable):
        raise QuarantineError(f"{found.id} {_again(decoded.detail, found.id)}")
    return key, partition, decoded.command_id


def _again(why: str, wanted: QuarantineId) -> str:
    return (
        f"would only come back: {why}. Save its value (`ledger quarantine show {wanted} --value-to FILE`), mend the "
        f"file, then `ledger quarantine retry {wanted} --value FILE`"
    )
