"""Rows of a ledger with a history, as the ledger itself would have written them: made ten times as fast.

`ledger verify` finds nothing wrong with them (tests/integration/test_benchmark_history.py).
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from asyncpg.pgproto import pgproto

from benchmarks.commands import owner_id
from ledger.domain.chain import GENESIS, event_hash
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import EVENT_COLUMNS, EventRow

HISTORY_APP: Final = "history"
"""An app of its own, which has no topic (any more): so nothing is missed in Kafka of what was consumed."""

EVENT_EVERY: Final = timedelta(milliseconds=1)
"""Between two events of a partition."""

COMMAND_KEY_COLUMNS: Final = ("command_id", "scope", "partition", "sequence")
NONCE_KEY_COLUMNS: Final = ("key", "partition", "sequence")
ACCOUNT_COLUMNS: Final = ("owner_id", "credit_type", "balance", "version")
HEAD_COLUMNS: Final = ("sequence", "hash", "occurred_at")

_MADE_COLUMNS: Final = (
    *("partition", "sequence", "account_version", "amount", "balance_after", "issued_at", "occurred_at"),
    *("command_offset", "command_id", "app", "operation", "owner_id", "credit_type", "nonce"),
    *("reason", "detail", "metadata", "metadata_digest", "hash"),
)


@dataclass(slots=True)
class Chunk:
    """Rows that follow one another."""

    events: list[EventRow] = field(default_factory=list)
    command_keys: list[tuple[UUID, UUID, int, int]] = field(default_factory=list)
    nonce_keys: list[tuple[UUID, int, int]] = field(default_factory=list)


class PartitionHistory:
    """The events of one partition, and where they end."""

    def __init__(self, partition: int, owners: Sequence[int], events: int, ends_at: datetime) -> None:
        """`owners` are the numbers of those on this partition; each has an entry if there are events enough.
        The last event occurred at `ends_at`."""
        if EVENT_COLUMNS != _MADE_COLUMNS:
            raise ValueError(f"the event table has other columns by now: {EVENT_COLUMNS}")
        if events and not owners:
            raise ValueError(f"partition {partition} has no owner")
        self.partition = partition
        self.events = events
        self.hash = GENESIS
        self.sequence = 0
        self.occurred_at = ends_at - EVENT_EVERY * events
        self._names = [owner_id(number) for number in owners]
        self._balances = [0] * len(owners)
        self._versions = [0] * len(owners)
        self._chance = random.Random(partition)

    def chunks(self, size: int) -> Iterator[Chunk]:
        """All rows, in order."""
        while self.sequence < self.events:
            yield self._chunk(min(size, self.events - self.sequence))

    def accounts(self) -> list[tuple[str, str, int, int]]:
        """Rows of all accounts, as they are after the events so far."""
        return [
            (name, DEFAULT_CREDIT_TYPE, balance, version)
            for name, balance, version in zip(self._names, self._balances, self._versions, strict=True)
            if version
        ]

    def _chunk(self, size: int) -> Chunk:
        chunk = Chunk()
        chance, names, balances, versions = self._chance, self._names, self._balances, self._versions
        partition, sequence, last_hash, occurred_at = self.partition, self.sequence, self.hash, self.occurred_at
        for _ in range(size):
            # Every owner once, in their order; then whoever it may be.
            index = sequence if sequence < len(names) else int(chance.random() * len(names))
            sequence += 1
            occurred_at += EVENT_EVERY
            if balances[index] > 0 and chance.random() < 0.5:
                operation, amount = "CREDIT_SPEND", -1
            else:
                operation, amount = "CREDIT_ADD", 10
            balances[index] += amount
            versions[index] += 1
            owner = names[index]
            command_id = _command_id(occurred_at, chance)
            nonce = f"order-{command_id.hex[16:]}"
            last_hash = event_hash(
                last_hash,
                partition=partition,
                sequence=sequence,
                app=HISTORY_APP,
                command_id=command_id,
                operation=operation,
                owner_id=owner,
                credit_type=DEFAULT_CREDIT_TYPE,
                account_version=versions[index],
                amount=amount,
                balance_after=balances[index],
                nonce=nonce,
                issued_at=occurred_at,
                occurred_at=occurred_at,
                reason=None,
                detail=None,
                metadata_digest=None,
                command_offset=sequence - 1,
            )
            chunk.events.append(
                (
                    *(partition, sequence, versions[index], amount, balances[index], occurred_at, occurred_at),
                    *(sequence - 1, command_id, HISTORY_APP, operation, owner, DEFAULT_CREDIT_TYPE, nonce),
                    *(None, None, None, None, last_hash),
                )
            )
            key = command_key(HISTORY_APP, owner, command_id)
            chunk.command_keys.append((key.command_id, key.scope, partition, sequence))
            chunk.nonce_keys.append((nonce_key(HISTORY_APP, owner, nonce), partition, sequence))
        self.sequence, self.hash, self.occurred_at = sequence, last_hash, occurred_at
        return chunk


def _command_id(time: datetime, chance: random.Random) -> UUID:
    """Of version 7, as producers make them, but of a time in the past."""
    head = int(time.timestamp() * 1000).to_bytes(6, "big")
    tail = bytearray(chance.randbytes(10))
    tail[0] = tail[0] & 0x0F | 0x70
    tail[2] = tail[2] & 0x3F | 0x80
    made: UUID = pgproto.UUID(head + tail)
    return made
