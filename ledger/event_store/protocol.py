"""What the ledger needs of its record, and no more: so that the same loops run on Postgres and on an in-memory twin.

Every implementation passes the contract suite in tests/contract.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, Protocol
from uuid import UUID

from ledger.domain.account import Account
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.keys import CommandKey

TRYING_CLAIMS_MAX: Final = 5
"""The claim that finds the same record tried for the fifth time halts the partition."""


class StoreUnavailableError(Exception):
    """Postgres did not answer. Nothing of the call was committed; back off, connect and claim again."""


class ForeignLedgerError(StoreUnavailableError):
    """Another ledger's database answers under the address of this one. Nothing was read or written there: as long as it
    answers, this ledger's own database counts as away, and work goes on by itself when that is back."""

    def __init__(self, expected: UUID, found: UUID | None) -> None:
        holds = "no ledger" if found is None else f"ledger {found}"
        super().__init__(
            f"FOREIGN LEDGER: the database that answers holds {holds}, this process works for ledger {expected} "
            "and touches nothing there; put the right database back under this address (or correct "
            "LEDGER_DATABASE_URL and restart), see docs/operating.md, 'A foreign ledger'"
        )


class CommitOutcomeUnknownError(Exception):
    """The connection broke after COMMIT was sent: it may or may not have happened. Claim again on condition."""


class RecordMismatchError(Exception):
    """The record is not what this process knows: another ledger, another number of partitions, or a wrong row count.
    Nothing was committed; an operator has to look."""


class AccountKey(NamedTuple):
    """One owner's credits of one type."""

    owner_id: str
    credit_type: str


class ConsumedMark(NamedTuple):
    """How far one app's commands of a partition are consumed, and the last consumed record, to be recognised by."""

    next_offset: int
    last_offset: int
    last_timestamp_ms: int
    last_digest: bytes


@dataclass(frozen=True, slots=True)
class Identity:
    """Which ledger a record belongs to."""

    ledger_id: UUID
    partitions: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition as its new holder finds it."""

    partition: int
    epoch: int
    sequence: int
    hash: bytes
    occurred_at: datetime | None
    published_sequence: int
    consumed: int
    marks: Mapping[str, ConsumedMark]
    """By app."""
    clock: datetime
    """The record's own clock at the claim."""
    same_position_as_last_claim: bool
    """The claim before this one ended neither cleanly nor with progress: process one record at a time."""
    trying: str | None
    """The record (`app:offset`) that was being tried alone when a holder died."""
    trying_claims: int
    generations: Mapping[str, int] = field(default_factory=dict)
    """By app: how many logs of its topic's name there have been; 1 where it is not named."""


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a partition stands still, wholly or for some apps; nothing of it: it does not."""

    because: str | None = None
    """Why nothing at all is consumed."""
    record: str | None = None
    """The record (`app:partition:offset`) at which it stands, where one is to blame."""
    apps: Mapping[str, str] = field(default_factory=dict)
    """By app: why nothing of that app is consumed, while others go on."""

    @property
    def apps_as_json(self) -> str | None:
        """As the head keeps it."""
        return json.dumps(dict(self.apps), ensure_ascii=False) if self.apps else None


@dataclass(frozen=True, slots=True)
class Alive:
    """What a holder learns when it says that it lives."""

    held: frozenset[int]
    """Partitions that nobody has claimed since."""
    released: frozenset[int]
    """Partitions that were taken from their holder and are free again, as an operator's intervention leaves them."""
    clock: datetime | None
    """The record's clock; None when nothing was asked."""


class Head(NamedTuple):
    """Where the record of a partition ends, and which claim it is under."""

    epoch: int
    sequence: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class HeadAdvance:
    """The fence of one partition and where its head moves; sequences may be equal when nothing was decided."""

    partition: int
    epoch: int
    sequence_before: int
    sequence: int
    hash: bytes
    occurred_at: datetime | None
    published_sequence: int
    consumed: int
    """Records consumed by this batch."""


class OffsetAdvance(NamedTuple):
    """Compare and set of one app's offset: `expected` is None for the first record of an app on a partition."""

    app: str
    partition: int
    expected: int | None
    mark: ConsumedMark


class QuarantinedRecord(NamedTuple):
    """A message that cannot be read, byte for byte."""

    app: str
    partition: int
    command_offset: int
    timestamp_ms: int
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    generation: int = 1
    """Of the app's log on this partition: a topic that was made anew uses the same offsets again."""


EventRow = tuple[object, ...]
"""A row of ledger.event in the order of EVENT_COLUMNS."""

EVENT_COLUMNS: Final = (
    "partition",
    "sequence",
    "account_version",
    "amount",
    "balance_after",
    "issued_at",
    "occurred_at",
    "command_offset",
    "command_id",
    "app",
    "operation",
    "owner_id",
    "credit_type",
    "nonce",
    "reason",
    "detail",
    "metadata",
    "metadata_digest",
    "hash",
)


@dataclass(slots=True)
class AppendBatch:
    """Everything that one transaction appends, over all partitions of one poll."""

    heads: list[HeadAdvance] = field(default_factory=list)
    offsets: list[OffsetAdvance] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    command_keys: list[tuple[UUID, UUID, int, int]] = field(default_factory=list)
    """command id, scope, partition, sequence"""
    nonce_keys: list[tuple[UUID, int, int]] = field(default_factory=list)
    """key, partition, sequence; of accepted entries only"""
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    """The last state of every account that changed."""
    quarantine: list[QuarantinedRecord] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Appended:
    """The batch is committed. `clock` is the record's clock as the fence returned it."""

    clock: datetime


@dataclass(frozen=True, slots=True)
class Fenced:
    """Nothing was committed: these partitions have another holder by now."""

    partitions: frozenset[int]


@dataclass(frozen=True, slots=True)
class KeyTaken:
    """Nothing was committed: a command id or nonce of the batch is in the record already; look the keys up."""


AppendResult = Appended | Fenced | KeyTaken


@dataclass(frozen=True, slots=True)
class KeysFound:
    """Where the keys that were looked up lie; a key that is not in here is not in the record."""

    commands: Mapping[CommandKey, Position]
    nonces: Mapping[UUID, Position]


class EventStore(Protocol):
    """The record, as the ledger consumer sees it. Every call may raise StoreUnavailableError."""

    async def identity(self) -> Identity:
        """Which ledger this is. Raises RecordMismatchError when it has not been initialised."""

    async def claim(self, partition: int, holder: str, if_epoch: int | None = None) -> Claim | None:
        """Take a partition: its epoch rises by one, and every older holder is fenced from now on.

        With `if_epoch` only if it is still that epoch; None then means that another holder has claimed it since.
        """

    async def append(self, batch: AppendBatch) -> AppendResult:
        """Append in one transaction, behind the fence.

        Raises:
            CommitOutcomeUnknownError: the connection broke while the commit was under way.
            RecordMismatchError: the record contradicts the batch (offsets, heads, row counts); nothing was committed.
        """

    async def look_up(self, commands: Collection[CommandKey], nonces: Collection[UUID]) -> KeysFound:
        """Which of these keys are in the record, and where."""

    async def load_accounts(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Account]:
        """The states of these accounts; a key that is missing has no entries yet."""

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """The events behind `after`, in order, at most `limit`."""

    async def read_events_at(self, positions: Collection[Position]) -> Mapping[Position, RecordedEvent]:
        """The events at these positions."""

    async def note_published(self, partition: int, epoch: int, sequence: int) -> None:
        """Raise `published_sequence`, if the epoch still holds the partition and the record holds that event; never
        lowers it."""

    async def note_alive(self, partitions: Mapping[int, int]) -> Alive:
        """Say that the holder of these partitions (with their epochs) lives, and learn which of them it still holds."""

    async def read_heads(self, partitions: Collection[int]) -> Mapping[int, Head]:
        """Where these partitions end now, whoever holds them: a holder compares it with what it knows."""

    async def note_trying(self, partition: int, epoch: int, trying: str) -> int | None:
        """Commit that this record (`app:offset`) is tried alone; how many claims have tried it, or None: fenced."""

    async def note_calm(self, partitions: Mapping[int, int], *, release: bool = False) -> None:
        """These partitions (with their epochs) have nothing to read, or are given up cleanly (`release`): the count of
        claims without progress begins anew."""

    async def note_halted(self, partition: int, epoch: int, halt: Halt) -> None:
        """Write for `ledger status` why this partition stands still, or that it does not any more. A claim ends it."""
