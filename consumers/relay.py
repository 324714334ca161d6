"""Publishes what is committed: each partition's events in sequence order, from a trailing mark.

Nothing is published that is not committed, because only committed events are handed over or read from the record. What
was published but not yet noted is published again after a crash: every event at least once.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

import structlog

from consumers.back_off import BackOff
from ledger.broker.protocol import BrokerUnavailableError, OutgoingRecord, Publisher, PublishError
from ledger.domain.event import RecordedEvent
from ledger.event_store.protocol import EventStore, StoreUnavailableError
from ledger.messages.event_codec import encode_event
from ledger.messages.topics import Topics

EVENTS_WAITING_MAX: Final = 20_000
"""Committed events of a process that wait for publication before the ledger consumer stops taking commands."""

REPLAYS_BATCH_MAX: Final = 500
"""Replays that are published after each batch of events while both wait: a backlog of one does not starve the other."""

REPLAYS_WAITING_MAX: Final = 10_000
"""Per partition. Replays are best effort: the oldest are dropped, and whoever waits for them asks again."""

BATCH_EVENTS_MAX: Final = 2_000
"""Events of one publication, and of one read from the record."""

NOTE_IDLE_S: Final = 1.0
"""How long after the last publication the trailing mark is noted, where no batch of commands carries it."""

log: Final = structlog.get_logger("ledger.relay")


class Relay:
    """One publisher for all partitions of a process, and one task per partition."""

    def __init__(
        self, store: EventStore, open_publisher: Callable[[], Publisher], topics: Topics, random: Random
    ) -> None:
        self._store = store
        self._open_publisher = open_publisher
        self._topics = topics
        self._random = random
        self._publisher: Publisher | None = None
        self._opening = asyncio.Lock()
        self._partitions: dict[int, _PartitionRelay] = {}
        self._room = asyncio.Event()
        self._room.set()

    def begin(self, partition: int, epoch: int, published_sequence: int, sequence: int) -> None:
        """Take over a partition whose record ends at `sequence`: what lies behind the mark is published first."""
        self.end(partition)
        self._partitions[partition] = _PartitionRelay(self, partition, epoch, published_sequence, sequence)

    def end(self, partition: int) -> None:
        """Give a partition up at once. What is in flight is committed, so it may arrive."""
        relay = self._partitions.pop(partition, None)
        if relay is not None:
            relay.cancel()
            self._look_for_room()

    def add(self, partition: int, events: Sequence[RecordedEvent], replays: Sequence[RecordedEvent]) -> None:
        """Hand over events that are committed, in their order, and first events to be given again."""
        self._partitions[partition].add(events, replays)
        self._look_for_room()

    def published_sequence(self, partition: int) -> int:
        """The last event of the partition that Kafka has acknowledged."""
        return self._partitions[partition].published

    def noted(self, partition: int, sequence: int) -> None:
        """The record knows this mark by now."""
        self._partitions[partition].noted = sequence

    async def room(self, timeout_s: float) -> bool:
        """Wait until fewer than EVENTS_WAITING_MAX events wait; False when that takes longer."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._room.wait(), timeout_s)
        return self._room.is_set()

    async def drain(self, timeout_s: float) -> bool:
        """Publish what waits, note the marks, and end; what is left after the limit is published by the next holder.
        Whether nothing is left."""
        relays = list(self._partitions.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                for relay in relays:
                    await relay.drained()
                for relay in relays:
                    await relay.note()
        all_noted = all(relay.noted == relay.committed for relay in relays)
        for partition in list(self._partitions):
            self.end(partition)
        if self._publisher is not None:
            await self._publisher.stop()
            self._publisher = None
        return all_noted

    async def publisher(self) -> Publisher:
        """The publisher of this process, opened when there is none. Raises BrokerUnavailableError."""
        async with self._opening:
            if self._publisher is None:
                publisher = self._open_publisher()
                await publisher.start()
                self._publisher = publisher
            return self._publisher

    async def give_up(self, publisher: Publisher) -> None:
        """A publication failed: the publisher is at its end (later records may be in the log before earlier ones)."""
        async with self._opening:
            if self._publisher is publisher:
                self._publisher = None
                await publisher.stop()

    def _look_for_room(self) -> None:
        waiting = sum(relay.waiting for relay in self._partitions.values())
        if waiting < EVENTS_WAITING_MAX:
            self._room.set()
        else:
            self._room.clear()

    def progressed(self) -> None:
        """Called by a partition's task after a publication."""
        self._look_for_room()


class _PartitionRelay:
    """At most one unacknowledged publication; events committed meanwhile form the next one."""

    def __init__(self, relay: Relay, partition: int, epoch: int, published: int, committed: int) -> None:
        self._relay = relay
        self._partition = partition
        self._epoch = epoch
        self.published = published
        self.noted = published
        self._committed = committed
        self._events: deque[RecordedEvent] = deque()
        self._replays: deque[RecordedEvent] = deque(maxlen=REPLAYS_WAITING_MAX)
        self._work = asyncio.Event()
        self._work.set()
        self._done = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"relay of partition {partition}")

    @property
    def waiting(self) -> int:
        return len(self._events)

    @property
    def committed(self) -> int:
        return self._committed

    def add(self, events: Sequence[RecordedEvent], replays: Sequence[RecordedEvent]) -> None:
        if events:
            assert events[0].sequence == self._committed + 1, "events are handed over in their order"
            self._committed = events[-1].sequence
            self._events.extend(events)
        self._replays.extend(replays)
        self._done.clear()
        self._work.set()

    def cancel(self) -> None:
        self._task.cancel()

    async def drained(self) -> None:
        await self._done.wait()

    async def note(self) -> None:
        if self.published != self.noted:
            mark = self.published
            with contextlib.suppress(StoreUnavailableError):
                await self._relay._store.note_published(self._partition, self._epoch, mark)
                self.noted = mark

    async def _run(self) -> None:
        back_off = BackOff(self._relay._random)
        while True:
            try:
                await self._wait_for_work()
                while self.published < self._committed or self._replays:
                    await self._publish_events()
                    await self._publish_replays()
                back_off.reset()
            except (PublishError, BrokerUnavailableError, StoreUnavailableError) as error:
                # In doubt: the trailing mark is where a new publisher begins again, from memory or from the record.
                log.warning("publishing is interrupted", partition=self._partition, error=str(error))
                await asyncio.sleep(back_off.next_s())
            except asyncio.CancelledError:
                raise
            except Exception:  # a defect: said aloud, and tried again, because events must not stay unpublished
                log.exception("publishing failed", partition=self._partition)
                await asyncio.sleep(back_off.next_s())

    async def _wait_for_work(self) -> None:
        if self.published == self._committed and not self._replays:
            self._done.set()
            self._work.clear()
            # Again and again: a note that Postgres did not take would else wait for the partition's next command.
            while self.published != self.noted and not self._work.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._work.wait(), NOTE_IDLE_S)
                if not self._work.is_set():
                    await self.note()
            await self._work.wait()

    async def _publish_events(self) -> None:
        if self.published < self._committed:
            events = await self._next_events()
            await self._publish(self._relay._topics.events, events)
            self.published = events[-1].sequence
            while self._events and self._events[0].sequence <= self.published:
                self._events.popleft()
            self._relay.progressed()

    async def _next_events(self) -> Sequence[RecordedEvent]:
        if self._events and self._events[0].sequence == self.published + 1:
            count = min(len(self._events), BATCH_EVENTS_MAX)
            return [self._events[index] for index in range(count)]
        # After a claim: these were committed by an earlier holder.
        limit = min(BATCH_EVENTS_MAX, self._committed - self.published)
        return await self._relay._store.read_events(self._partition, self.published, limit)

    async def _publish_replays(self) -> None:
        if self._replays:
            replays = [self._replays.popleft() for _ in range(min(len(self._replays), REPLAYS_BATCH_MAX))]
            await self._publish(self._relay._topics.replays, replays)

    async def _publish(self, topic: str, events: Sequence[RecordedEvent]) -> None:
        publisher = await self._relay.publisher()
        records = [OutgoingRecord(event.owner_id.encode(), encode_event(event)) for event in events]
        try:
            await publisher.publish(topic, self._partition, records)
        except PublishError:
            await self._relay.give_up(publisher)
            raise
