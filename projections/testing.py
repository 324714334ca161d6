"""The read models in memory: `ProjectionStore` without Postgres, for simulations and fast tests.

A call takes effect at one instant between its two steps, as a transaction does at its COMMIT; a fault is injected by an
exception raised in a step. A feed's rows are the events that it took, in order: a test folds them as it likes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ledger.domain.chain import GENESIS
from ledger.domain.event import RecordedEvent
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.event_store.rows import recorded_event
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord, Step, no_fault
from projections.feed import Feed, FeedKey, unrecorded
from projections.read_model import ReadModelMismatchError
from projections.store import Advance, RecordMarks

_HASH: Final = EVENT_COLUMNS.index("hash")


@dataclass(slots=True)
class InMemoryCheckpoint:
    """A row of the checkpoints, and the rows of the read model that are committed with it."""

    epoch: int = 0
    holder: str | None = None
    sequence: int = 0
    hash: str = GENESIS.hex()
    next_offset: int | None = None
    halted_because: str | None = None
    taken: list[RecordedEvent] = field(default_factory=list)


@dataclass(slots=True)
class InMemoryProjections:
    """What Postgres holds of the read models, beside the record."""

    record: InMemoryRecord
    versions: dict[str, int] = field(default_factory=dict)
    checkpoints: dict[FeedKey, InMemoryCheckpoint] = field(default_factory=dict)
    refuses: Callable[[Advance], str | None] = lambda advance: None
    """Why the rows of an advance contradict the tables, or None: for tests of what happens then."""

    def install(self, read_models: Collection[str]) -> None:
        """Make the first version of read models that have none."""
        for name in read_models:
            if name not in self.versions:
                self._create(name, 1)
                self.versions[name] = 1

    def rebuild(self, read_model: str, *, after_restore: bool = False) -> None:
        """Put a new version, made from the record, in the place of the active one, at one instant."""
        self.swap(read_model, self.begin_rebuild(read_model), after_restore=after_restore)

    def begin_rebuild(self, read_model: str) -> int:
        """Begin a version beside the active one, and fill in what the record holds now; its number. What an earlier
        rebuild left behind is dropped."""
        active = self.versions[read_model]
        for key in [key for key in self.checkpoints if key.read_model == read_model and key.version != active]:
            del self.checkpoints[key]
        self._create(read_model, active + 1)
        return active + 1

    def swap(self, read_model: str, version: int, *, after_restore: bool = False) -> None:
        """Fill in the rest of the record and activate this version, at one instant."""
        old = self.versions[read_model]
        self._create(read_model, version)
        self.versions[read_model] = version
        for partition in self.record.heads:
            before = self.checkpoints.pop(FeedKey(read_model, old, partition))
            new = self.checkpoints[FeedKey(read_model, version, partition)]
            new.next_offset = None if after_restore else before.next_offset

    def active(self, read_model: str, partition: int) -> InMemoryCheckpoint:
        """The checkpoint and rows of the active version."""
        return self.checkpoints[FeedKey(read_model, self.versions[read_model], partition)]

    def _create(self, read_model: str, version: int) -> None:
        for partition, head in self.record.heads.items():
            self.checkpoints[FeedKey(read_model, version, partition)] = InMemoryCheckpoint(
                sequence=head.sequence,
                hash=head.hash.hex(),
                next_offset=None if head.sequence else 0,
                taken=_events(self.record, partition),
            )


def _events(record: InMemoryRecord, partition: int) -> list[RecordedEvent]:
    events = []
    prev_hash = GENESIS
    for values in record.events[partition]:
        row = dict(zip(EVENT_COLUMNS, values, strict=True))
        events.append(recorded_event(row, prev_hash))
        prev_hash = bytes.fromhex(events[-1].hash)
    return events


class InMemoryProjectionStore:
    """`ProjectionStore` of one process on shared projections."""

    def __init__(self, projections: InMemoryProjections, step: Step = no_fault) -> None:
        self._projections = projections
        self._step = step

    async def active_versions(self) -> Mapping[str, int]:
        """See ProjectionStore."""
        await self._step("active_versions")
        return dict(self._projections.versions)

    async def claim(self, keys: Mapping[FeedKey, int | None], holder: str) -> Sequence[Feed]:
        """See ProjectionStore."""
        await self._step("claim")
        feeds = self._claim(keys, holder)
        await self._step("claim done")
        return feeds

    async def lost(self, epochs: Mapping[FeedKey, int]) -> frozenset[FeedKey]:
        """See ProjectionStore."""
        await self._step("lost")
        checkpoints = self._projections.checkpoints
        return frozenset(
            key for key, epoch in epochs.items() if key not in checkpoints or checkpoints[key].epoch != epoch
        )

    async def advance(self, batch: Sequence[Advance]) -> frozenset[FeedKey]:
        """See ProjectionStore."""
        await self._step("advance")
        lost = self._advance(batch)
        await self._step("advance done")
        return lost

    def _unrecorded(self, one: Advance) -> str | None:
        partition, record = one.key.partition, self._projections.record
        head = record.heads[partition].sequence
        if one.events and (
            one.sequence > head or record.events[partition][one.sequence - 1][_HASH] != bytes.fromhex(one.hash)
        ):
            return unrecorded(partition, one.sequence, head)
        return None

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """See ProjectionStore."""
        return await InMemoryEventStore(self._projections.record, self._step).read_events(partition, after, limit)

    async def record_marks(self, partition: int, sequences: Collection[int]) -> RecordMarks:
        """See ProjectionStore."""
        await self._step("record_marks")
        rows = self._projections.record.events[partition]
        hashes: dict[int, str] = {}
        for sequence in sequences:
            if 1 <= sequence <= len(rows):
                recorded = rows[sequence - 1][_HASH]
                assert isinstance(recorded, bytes)
                hashes[sequence] = recorded.hex()
        return RecordMarks(self._projections.record.heads[partition].sequence, hashes)

    async def note_halted(self, key: FeedKey, epoch: int, because: str) -> None:
        """See ProjectionStore."""
        await self._step("note_halted")
        checkpoint = self._projections.checkpoints.get(key)
        if checkpoint is not None and checkpoint.epoch == epoch:
            checkpoint.halted_because = because

    async def release(self, epochs: Mapping[FeedKey, int]) -> None:
        """See ProjectionStore."""
        await self._step("release")
        for key, epoch in epochs.items():
            checkpoint = self._projections.checkpoints.get(key)
            if checkpoint is not None and checkpoint.epoch == epoch:
                checkpoint.holder = None

    async def stop(self) -> None:
        """See ProjectionStore."""

    def _claim(self, keys: Mapping[FeedKey, int | None], holder: str) -> list[Feed]:
        feeds = []
        for key, if_epoch in keys.items():
            checkpoint = self._projections.checkpoints.get(key)
            if checkpoint is None or if_epoch not in (None, checkpoint.epoch):
                continue
            checkpoint.epoch += 1
            checkpoint.holder, checkpoint.halted_because = holder, None
            feeds.append(Feed(key, checkpoint.epoch, checkpoint.sequence, checkpoint.hash, checkpoint.next_offset))
        return feeds

    def _advance(self, batch: Sequence[Advance]) -> frozenset[FeedKey]:
        checkpoints = self._projections.checkpoints
        lost = frozenset(
            one.key for one in batch if one.key not in checkpoints or checkpoints[one.key].epoch != one.epoch
        )
        if lost:
            return lost
        for one in batch:
            refusal = self._unrecorded(one) or self._projections.refuses(one)
            if refusal is not None:
                raise ReadModelMismatchError(refusal)
        for one in batch:
            checkpoint = checkpoints[one.key]
            checkpoint.sequence, checkpoint.hash = one.sequence, one.hash
            checkpoint.next_offset = one.next_offset
            checkpoint.taken.extend(one.events)
        return lost
