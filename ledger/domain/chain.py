"""The hash chain: each event's hash covers the hash of the one before it.

The digest is over the stored fields, not over JSON, so that any encoder can verify it, and over a digest of the
metadata, so that metadata can be erased. No text of an event contains NUL, so NUL separates the fields unambiguously.
"""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final
from uuid import UUID

GENESIS: Final = bytes(32)
"""What the first event of a partition follows."""

FORMAT_VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(time: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z of an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def metadata_digest(metadata: str | bytes) -> bytes:
    """What stands for the metadata in the event's hash: blake2b-256 of the text that was sent."""
    return blake2b(metadata.encode() if isinstance(metadata, str) else metadata, digest_size=32).digest()


def event_hash(
    prev_hash: bytes,
    *,
    partition: int,
    sequence: int,
    app: str,
    command_id: UUID,
    operation: str,
    owner_id: str,
    credit_type: str,
    account_version: int,
    amount: int,
    balance_after: int,
    nonce: str,
    issued_at: datetime,
    occurred_at: datetime,
    reason: str | None,
    detail: str | None,
    metadata_digest: bytes | None,
    command_offset: int,
) -> bytes:
    """blake2b-256 over prev_hash, the format's version, and the fields in this order (source: docs/reference.md)."""
    fields = (
        f"{FORMAT_VERSION}\0{partition}\0{sequence}\0{app}\0{command_id.hex}\0{operation}\0{owner_id}\0{credit_type}\0"
        f"{account_version}\0{amount}\0{balance_after}\0{nonce}\0{microseconds(issued_at)}\0"
        f"{microseconds(occurred_at)}\0{reason or ''}\0{detail or ''}\0"
        f"{metadata_digest.hex() if metadata_digest else ''}\0{command_offset}"
    )
    return blake2b(prev_hash + fields.encode(), digest_size=32).digest()
