"""The unique keys of the record.

A command key is the command id beside a digest of (app, owner): with ids of version 7 its index grows at its end. A
nonce key is one digest. 128 bits: a collision, which would take 2^64 tries, would show as a duplicate of another
command, never as a doubled one.
"""

from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

# asyncpg's UUID is one, made ten times as fast; COPY takes it as it is.
from asyncpg.pgproto import pgproto


class CommandKey(NamedTuple):
    """Unique for ever over all events: one event per (app, owner, command id)."""

    command_id: UUID
    scope: UUID


def command_key(app: str, owner_id: str, command_id: UUID) -> CommandKey:
    """The key of a command. No text contains NUL, so the digest is over unambiguous bytes."""
    scope = pgproto.UUID(blake2b(f"{app}\0{owner_id}".encode(), digest_size=16).digest())
    # A third of the time that calling the class takes.
    return tuple.__new__(CommandKey, (pgproto.UUID(command_id.bytes), scope))


def nonce_key(app: str, owner_id: str, nonce: str) -> UUID:
    """The key of a nonce, unique for ever over the accepted entries."""
    return pgproto.UUID(blake2b(f"{app}\0{owner_id}\0{nonce}".encode(), digest_size=16).digest())
