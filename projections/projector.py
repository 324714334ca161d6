"""Takes records of `ledger.events` into the read models: decodes once, checks each feed's chain, fills gaps from the
record, commits, and halts a feed that cannot go on while the others do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from ledger.broker.protocol import Record
from ledger.domain.event import RecordedEvent
from ledger.event_store.protocol import RecordMismatchError
from ledger.messages.event_codec import UnreadableEventError, decode_event
from projections.feed import Feed, FeedKey, Followed, follow, remembered_hash, seen_otherwise, what_to_do
from projections.read_model import ReadModelMismatchError
from projections.store import Advance, ProjectionStore

FILL_PAGE_EVENTS: Final = 2_000
"""Events of the record projected by one transaction while a gap is filled."""

log: Final = structlog.get_logger("ledger.projector")


class FencedError(Exception):
    """Feeds that this process no longer holds, or whose version is gone. Nothing of the batch was committed."""

    def __init__(self, keys: frozenset[FeedKey]) -> None:
        super().__init__(f"no longer held: {sorted(keys)}")
        self.keys = keys


@dataclass(slots=True)
class _Arrived:
    """The records of one partition in one poll."""

    events: list[RecordedEvent] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    """Of the events, and of what could not be read."""
    next_offset: int = 0
    unreadable: str | None = None


class Projector:
    """The feeds that one worker holds, and how they move.

    `feeds` belongs to the worker, which claims and drops; a feed's checkpoint moves only here, after a commit.
    """

    def __init__(self, store: ProjectionStore, keep_going: Callable[[], bool]) -> None:
        """`keep_going` is asked between two pages of a long fill; when it says no, the fill is left as it is."""
        self.feeds: dict[FeedKey, Feed] = {}
        self.projected = 0
        self._store = store
        self._keep_going = keep_going

    async def project(self, records: Iterable[Record]) -> None:
        """Take one poll into all feeds, in one transaction.

        Raises:
            FencedError: nothing was committed.
            StoreUnavailableError: it is not known whether it was committed.
        """
        arrived = _decode(records)
        advances: list[Advance] = []
        # Feeds of one partition are usually at the same place: the chain is checked once for all of them.
        followed_at: dict[tuple[int, int, str], Followed] = {}
        halting: list[tuple[Feed, str]] = []
        for feed in list(self.feeds.values()):
            batch = arrived.get(feed.key.partition)
            if batch is None or feed.halted_because is not None:
                continue
            advance, why = await self._advance(feed, batch, followed_at)
            if advance is not None:
                advances.append(advance)
            if why is not None:
                halting.append((feed, why))
        await self._commit(advances)
        for feed, why in halting:
            await self.halt(feed, why)

    async def fill(self, feed: Feed, until: int) -> bool:
        """Take the events of the record up to a sequence, page by page; False when the feed halted or was told to stop.

        Raises:
            FencedError, StoreUnavailableError: as for `project`.
        """
        partition = feed.key.partition
        while feed.sequence < until and feed.halted_because is None:
            if not self._keep_going():
                return False
            try:
                events = await self._store.read_events(
                    partition, feed.sequence, min(FILL_PAGE_EVENTS, until - feed.sequence)
                )
            except RecordMismatchError as error:
                await self.halt(feed, f"the record cannot be read behind {partition}:{feed.sequence}: {error}.")
                break
            followed = follow(feed.sequence, feed.hash, events)
            if followed.conflict is not None or followed.gap_before is not None:
                why = followed.conflict or f"the record lacks the event before {partition}:{followed.gap_before}."
                await self.halt(feed, why)
            elif not followed.new:
                await self.halt(
                    feed, f"ledger.events carries {partition}:{until + 1}, but the record ends at {feed.sequence}."
                )
            else:
                await self._commit([_advance_by(feed, followed.new, feed.next_offset)])
        return feed.halted_because is None

    async def halt(self, feed: Feed, because: str) -> None:
        """Let this feed stand still, and say so; the others go on."""
        feed.halted_because = f"{because} {what_to_do(feed.key.read_model)}"
        log.error(
            "a read model halts",
            read_model=feed.key.read_model,
            partition=feed.key.partition,
            sequence=feed.sequence,
            because=feed.halted_because,
        )
        await self._store.note_halted(feed.key, feed.epoch, feed.halted_because)

    async def _advance(
        self, feed: Feed, batch: _Arrived, followed_at: dict[tuple[int, int, str], Followed]
    ) -> tuple[Advance | None, str | None]:
        """What the batch does to the feed, and why the feed halts after that."""
        while True:
            place = (feed.key.partition, feed.sequence, feed.hash)
            followed = followed_at.get(place)
            if followed is None:
                followed = followed_at[place] = follow(feed.sequence, feed.hash, batch.events)
            if followed.gap_before is None:
                break
            # Also the events of this batch before the gap: whatever is published is in the record.
            if not await self.fill(feed, followed.gap_before - 1):
                return None, None
        next_offset, why = batch.next_offset, batch.unreadable
        if followed.conflict is not None:
            next_offset, why = batch.offsets[followed.looked_at], followed.conflict
        if followed.seen:
            changed = await self._seen_otherwise(feed, followed)
            if changed is not None:
                event, why = changed
                index = next(index for index, other in enumerate(batch.events) if other is event)
                next_offset = batch.offsets[index]
                followed = follow(feed.sequence, feed.hash, batch.events[:index])
        if feed.next_offset is not None:
            next_offset = max(next_offset, feed.next_offset)
        return _advance_by(feed, followed.new, next_offset), why

    async def _seen_otherwise(self, feed: Feed, followed: Followed) -> tuple[RecordedEvent, str] | None:
        further_back = {
            event.sequence for event in followed.seen if remembered_hash(feed, followed.new, event.sequence) is None
        }
        recorded: Mapping[int, str] = {}
        if further_back:
            recorded = (await self._store.record_marks(feed.key.partition, further_back)).hashes
        return seen_otherwise(feed, followed, recorded)

    async def _commit(self, advances: Sequence[Advance]) -> None:
        if not advances:
            return
        try:
            lost = await self._store.advance(advances)
        except ReadModelMismatchError as error:
            if len(advances) == 1:
                await self.halt(self.feeds[advances[0].key], f"{error}.")
                return
            for advance in advances:  # whose events these are shows when each is alone
                await self._commit([advance])
            return
        if lost:
            raise FencedError(lost)
        for advance in advances:
            feed = self.feeds[advance.key]
            feed.sequence, feed.hash, feed.next_offset = advance.sequence, advance.hash, advance.next_offset
            if advance.events:
                feed.recent = advance.events
                self.projected += len(advance.events)


def _advance_by(feed: Feed, events: Sequence[RecordedEvent], next_offset: int | None) -> Advance:
    last = events[-1] if events else feed
    return Advance(feed.key, feed.epoch, last.sequence, last.hash, next_offset, events)


def _decode(records: Iterable[Record]) -> dict[int, _Arrived]:
    arrived: dict[int, _Arrived] = {}
    for record in records:
        batch = arrived.get(record.partition)
        if batch is None:
            batch = arrived[record.partition] = _Arrived()
        if batch.unreadable is not None:
            continue
        try:
            event = decode_event(record.value)
        except UnreadableEventError as error:
            batch.unreadable = f"{record.topic}-{record.partition} offset {record.offset} is no event: {error}."
            batch.next_offset = record.offset
            continue
        if event.partition != record.partition:
            batch.unreadable = (
                f"{record.topic}-{record.partition} offset {record.offset} carries {event.position}, an event of "
                "another partition."
            )
            batch.next_offset = record.offset
            continue
        batch.events.append(event)
        batch.offsets.append(record.offset)
        batch.next_offset = record.offset + 1
    return arrived
