"""A partition that this process holds: what it knows of it, all of it committed."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Final
from uuid import UUID

from consumers.recent import Recent
from ledger.broker.protocol import Record
from ledger.domain.account import Account
from ledger.domain.position import Position
from ledger.event_store.keys import CommandKey
from ledger.event_store.protocol import AccountKey, Claim, ConsumedMark, Halt

ACCOUNTS_REMEMBERED_MAX: Final = 400_000
"""Over all partitions of a process. An account takes about 250 bytes."""

KEYS_REMEMBERED_MAX: Final = 100_000
"""Command ids, and as many nonces, over all partitions of a process: retries soon after the first try meet them."""

BATCH_RECORDS_MAX: Final = 4_000
"""The largest batch: a backlog makes them grow so far, while commands that come one by one are not waited for."""

CAREFUL_RECORDS_MAX: Final = BATCH_RECORDS_MAX
"""Records that are processed in small batches after a claim that found no progress: as many as the largest batch, which
is where the record that killed the holder before must lie."""

CAREFUL_BATCH_FIRST: Final = 32
"""The first of these batches; each that succeeds doubles the next. When a holder dies over one, the next claim begins
with a single record."""


class HeldPartition:
    """Built from a claim; changed by committed batches only."""

    def __init__(self, claim: Claim, partitions: int) -> None:
        self.partition = claim.partition
        self.epoch = claim.epoch
        self.sequence = claim.sequence
        self.published_at_claim = claim.published_sequence
        self.hash = claim.hash
        self.occurred_at: datetime | None = claim.occurred_at
        self.marks: dict[str, ConsumedMark] = dict(claim.marks)
        self.generations: Mapping[str, int] = claim.generations
        self.begun: set[str] = set()
        """Apps whose log has been compared with the mark."""
        self.unverified: dict[str, ConsumedMark] = {}
        """By app: the mark whose record is read again first, and compared."""
        self.first_offsets: dict[str, int] = {}
        """By app without a mark: where its log begins."""
        self.accounts: Recent[AccountKey, Account] = Recent(max(1, ACCOUNTS_REMEMBERED_MAX // partitions))
        self.commands: Recent[CommandKey, Position] = Recent(max(1, KEYS_REMEMBERED_MAX // partitions))
        self.nonces: Recent[UUID, Position] = Recent(max(1, KEYS_REMEMBERED_MAX // partitions))
        died = claim.same_position_as_last_claim or claim.trying is not None
        self.careful_records_left = CAREFUL_RECORDS_MAX if died else 0
        # Whoever died over a batch that it had named may have died of any record in it. But most die of something else,
        # and at one record to a transaction a backlog would wait for minutes, and with it all that the process holds.
        self.careful_batch = CAREFUL_BATCH_FIRST if claim.trying is None else 1
        self.suspect = claim.trying is not None
        """Whether the holder before died over a record that it had named."""
        self.calm_noted = False
        """Whether progress, or the end of the input, has been seen since the claim."""
        self.published_checked = False
        """Whether the last published event has been compared with the record."""
        self.trying: str | None = None
        """The record that this claim has said to try alone."""
        self.halted_because: str | None = None
        self.contradicted = False
        """Whether the record contradicts what this process knows: then what it knows is kept, to be compared again."""
        self.halted_record: str | None = None
        """The record (`app:partition:offset`) at which it is halted, where one is to blame."""
        self.halted_apps: dict[str, str] = {}
        """By app: why nothing of that app's log is read, while others go on."""
        self.noted_halt = Halt()
        """What the record says about halts of this partition."""
        self.out_of_range: set[str] = set()
        """Apps whose position was looked at again because the log did not hold it."""

    @property
    def careful(self) -> bool:
        """Whether records are processed in small batches, each named in the record before it is tried."""
        return self.careful_records_left > 0

    def tried(self, records: int) -> None:
        """So many records were processed carefully."""
        self.careful_records_left -= records
        self.careful_batch = min(2 * self.careful_batch, CAREFUL_RECORDS_MAX)

    def try_each_alone(self) -> None:
        """One of the next records cannot be processed: find out which."""
        self.careful_records_left = CAREFUL_RECORDS_MAX
        self.careful_batch = 1

    def reads(self, app: str) -> bool:
        """Whether this app's commands are consumed."""
        return self.halted_because is None and app not in self.halted_apps

    def forget_log(self, app: str) -> None:
        """Compare this app's log with the mark again before it is read on: it may be another one by now."""
        self.begun.discard(app)
        self.unverified.pop(app, None)
        self.first_offsets.pop(app, None)

    def forget_logs(self) -> None:
        """As `forget_log`, for every app: for a while nobody looked."""
        for app in list(self.begun):
            self.forget_log(app)

    def next_offset(self, app: str) -> int:
        """Where reading this app's commands goes on."""
        unverified = self.unverified.get(app)
        if unverified is not None:
            return unverified.last_offset
        mark = self.marks.get(app)
        return mark.next_offset if mark is not None else self.first_offsets[app]


def mark_of(record: Record) -> ConsumedMark:
    """The mark that is left when this record is the last consumed one."""
    return ConsumedMark(record.offset + 1, record.offset, record.timestamp_ms, _digest(record))


def _digest(record: Record) -> bytes:
    digest = blake2b(digest_size=16)
    for part in (record.key, record.value):
        digest.update(b"-" if part is None else len(part).to_bytes(8, "big") + part)
    return digest.digest()
