"""What a projection worker needs of Postgres, and no more: so that the same loop runs on an in-memory twin."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ledger.domain.event import RecordedEvent
from projections.feed import Feed, FeedKey


@dataclass(frozen=True, slots=True)
class Advance:
    """What one transaction does to one feed: its fence, the events it takes, and its checkpoint afterwards."""

    key: FeedKey
    epoch: int
    sequence: int
    hash: str
    next_offset: int | None
    events: Sequence[RecordedEvent]


@dataclass(frozen=True, slots=True)
class RecordMarks:
    """What the record holds of one partition."""

    head_sequence: int
    hashes: Mapping[int, str]
    """By sequence; an event that is missing here is not in the record, or archived."""


class ProjectionStore(Protocol):
    """Checkpoints, rows of the read models, and the record to fill gaps from.

    Every call may raise ledger.event_store.protocol.StoreUnavailableError: what was under way may or may not have been
    committed; claim again on condition.
    """

    async def active_versions(self) -> Mapping[str, int]:
        """The active version of every installed read model."""

    async def claim(self, keys: Mapping[FeedKey, int | None], holder: str) -> Sequence[Feed]:
        """Take feeds of one partition, each on condition of its epoch (None: unconditionally); answers those taken.

        The epochs rise by one: every older holder is fenced from now on.
        """

    async def lost(self, epochs: Mapping[FeedKey, int]) -> frozenset[FeedKey]:
        """Those of these feeds that have another holder by now, or whose version is gone."""

    async def advance(self, batch: Sequence[Advance]) -> frozenset[FeedKey]:
        """In one transaction, behind the fence: rows and checkpoints. Answers the feeds that have another holder by
        now, or whose version is gone; if there is one, nothing at all was committed.

        Raises:
            ReadModelMismatchError: the tables contradict the events, or the record does not hold the last of them (it
                was restored from an older copy); nothing was committed.
        """

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """Events of the record behind `after`, in order.

        Raises:
            RecordMismatchError: the record does not hold the event at `after`.
        """

    async def record_marks(self, partition: int, sequences: Collection[int]) -> RecordMarks:
        """Where the record ends and which hashes it holds at these sequences."""

    async def note_halted(self, key: FeedKey, epoch: int, because: str) -> None:
        """Write for `ledger status` why this feed stands still."""

    async def release(self, epochs: Mapping[FeedKey, int]) -> None:
        """Nobody holds these feeds any more."""

    async def stop(self) -> None:
        """Close the connection; never raises."""
