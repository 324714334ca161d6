"""The projection worker: holds the feeds of its partitions and moves them with what `ledger.events` brings.

One task does everything, so that nothing is polled while the assignment changes. Whatever goes wrong, memory is thrown
away and the committed checkpoints are claimed again: no state is repaired in place.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final

import structlog

from consumers.back_off import BackOff
from ledger.broker.protocol import (
    BrokerUnavailableError,
    Membership,
    OffsetOutOfRangeError,
    RecordReader,
    TopicPartition,
)
from ledger.event_store.protocol import ForeignLedgerError, RecordMismatchError, StoreUnavailableError
from projections.feed import FeedKey
from projections.projector import FencedError, Projector
from projections.store import ProjectionStore

POLL_EVENTS_MAX: Final = 4_000
"""Events of one poll, and so of one transaction."""

POLL_TIMEOUT_S: Final = 0.5
ASSIGNMENT_WAIT_S: Final = 0.5
HOLD_CHECK_INTERVAL_S: Final = 2.0
"""How often a worker looks whether it still holds its feeds: one that is not written to would not notice a rebuild, or
the late claim of a member that was frozen."""

BEHIND_CHECK_INTERVAL_S: Final = 5.0
"""How often a worker that has read all there is looks whether the record holds more: Kafka may have lost events that it
had acknowledged, and the next event, which would show the gap, may be long in coming."""

REJOIN_WAIT_MAX_S: Final = 1.0
"""A member that was fenced waits up to this long, at random, before it joins again: two must not chase each other."""

_AWAY: Final = (BrokerUnavailableError, StoreUnavailableError)
log: Final = structlog.get_logger("ledger.projector")


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """What a worker is doing, for health and logs."""

    partitions: frozenset[int]
    away: str | None
    """Why it is backing off, or None."""
    halted: Mapping[FeedKey, str]
    projected: int
    """Events projected since it started, counted once per read model."""


class ProjectionWorker:
    """Feeds all read models with the partitions that its group membership gives it."""

    def __init__(
        self,
        *,
        events_topic: str,
        membership: Membership,
        reader: RecordReader,
        store: ProjectionStore,
        read_models: Collection[str],
        holder: str,
        random: Random,
    ) -> None:
        """Nothing is connected yet.

        Args:
            events_topic: the topic that carries the events.
            membership: in the group of the projection workers.
            reader: for that topic; this worker alone uses it.
            store: checkpoints and rows.
            read_models: names of the read models to feed; all are installed.
            holder: names this process for people.
            random: for jitter.
        """
        self._topic = events_topic
        self._membership = membership
        self._reader = reader
        self._store = store
        self._read_models = sorted(read_models)
        self._holder = holder
        self._projector = Projector(store, self._may_go_on)
        self._feeds = self._projector.feeds
        self._epochs: dict[FeedKey, int] = {}
        # Epochs of feeds that were held when Postgres went away: claimed again only while nobody else has.
        self._lost = False
        self._generation = -1
        self._checked = 0.0
        self._must_assign = False
        self._behind: dict[FeedKey, int] = {}
        """Feeds that stood behind the record at the last look though all of the topic was read, and where."""
        self._behind_checked = 0.0
        self._away: str | None = None
        self._back_off = BackOff(random)
        self._random = random
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let `run` finish its batch, give everything up and return."""
        self._stopping.set()

    def status(self) -> WorkerStatus:
        """What it is doing now."""
        return WorkerStatus(
            partitions=frozenset(key.partition for key in self._feeds),
            away=self._away,
            halted={key: feed.halted_because for key, feed in self._feeds.items() if feed.halted_because is not None},
            projected=self._projector.projected,
        )

    async def run(self) -> None:
        """Project until `stop`. Kafka or Postgres being away never ends it.

        Raises:
            RecordMismatchError: a read model is not installed, or the database holds no ledger.
        """
        try:
            await self._insist(self._membership.start)
            await self._insist(self._reader.start)
            while not self._stopping.is_set():
                await self._insist(self._turn)
        finally:
            await self._close()

    async def _turn(self) -> None:
        self._membership.turned()
        generation, wanted = self._membership.generation, self._membership.wanted
        if wanted is None:
            await self._membership.changed(generation, ASSIGNMENT_WAIT_S)
            return
        if generation != self._generation:
            self._epochs.clear()  # a new assignment is a right to claim, whoever has claimed since
            self._generation = generation
        try:
            await self._own(wanted)
            await self._look_behind()
            await self._catch_up()
            if self._may_go_on() and not self._lost:
                await self._read(generation)
        except FencedError as error:
            await self._find_out(error.keys)
        if self._lost:
            await self._rejoin()

    async def _read(self, generation: int) -> None:
        if self._must_assign:
            self._assign()
        if all(feed.halted_because is not None for feed in self._feeds.values()):
            await self._membership.changed(generation, ASSIGNMENT_WAIT_S)
            return
        try:
            records = await self._reader.poll(POLL_EVENTS_MAX, POLL_TIMEOUT_S)
        except OffsetOutOfRangeError as error:
            log.warning("going on from the record", partition=error.topic_partition.partition, error=str(error))
            for feed in self._feeds.values():
                if feed.key.partition == error.topic_partition.partition:
                    feed.next_offset = None
            self._must_assign = True
            return
        if not records:
            return
        # Until the batch is committed, the reader is ahead of the checkpoints.
        self._must_assign = True
        if self._membership.generation != generation:
            return
        halted_before = self._halted()
        self._membership.batch_began()
        try:
            await self._projector.project(records)
        finally:
            self._membership.batch_ended()
        self._must_assign = self._halted() != halted_before

    # --- which feeds are held ---

    async def _own(self, wanted: frozenset[int]) -> None:
        """Hold exactly the feeds of these partitions and of the active versions."""
        for key in [key for key in self._feeds if key.partition not in wanted]:
            del self._feeds[key]  # others have claimed it, or will
            self._must_assign = True
        now = asyncio.get_running_loop().time()
        if {key.partition for key in self._feeds} != wanted or now - self._checked >= HOLD_CHECK_INTERVAL_S:
            self._checked = now
            lost = await self._store.lost({key: feed.epoch for key, feed in self._feeds.items()})
            if lost:
                raise FencedError(lost)
            await self._claim_missing(wanted)

    async def _claim_missing(self, wanted: frozenset[int]) -> None:
        versions = await self._versions()
        keys = {FeedKey(name, versions[name], partition) for name in self._read_models for partition in wanted}
        if keys == self._feeds.keys():
            return
        for key in self._feeds.keys() - keys:
            del self._feeds[key]
        self._must_assign = True
        missing = keys - self._feeds.keys()
        for partition in sorted({key.partition for key in missing}):
            if self._may_go_on() and not self._lost:
                await self._claim(partition, [key for key in missing if key.partition == partition])

    async def _versions(self) -> Mapping[str, int]:
        versions = await self._store.active_versions()
        for name in self._read_models:
            if name not in versions:
                raise RecordMismatchError(f"read model {name} is not installed in this database; run `ledger migrate`")
        return versions

    async def _claim(self, partition: int, keys: Collection[FeedKey]) -> None:
        wanted = {key: self._epochs.pop(key, None) for key in sorted(keys)}
        feeds = await self._store.claim(wanted, self._holder)
        if len(feeds) < len(wanted):
            self._checked = 0.0
            # Without a condition nothing but a rebuild can be in the way: the next turn sees the new version.
            self._lost = any(epoch is not None for epoch in wanted.values())
            return
        marks = await self._store.record_marks(partition, {feed.sequence for feed in feeds})
        for feed in feeds:
            self._feeds[feed.key] = feed
            recorded = marks.hashes.get(feed.sequence)
            if feed.sequence > marks.head_sequence or (recorded is not None and recorded != feed.hash):
                found = recorded or f"nothing, because it ends at {marks.head_sequence}"
                await self._projector.halt(
                    feed,
                    f"the checkpoint is {partition}:{feed.sequence} with hash {feed.hash}; the record has {found}.",
                )
        log.info("holding a partition", partition=partition, at={feed.key.read_model: feed.sequence for feed in feeds})

    async def _catch_up(self) -> None:
        """Where it is not known how far `ledger.events` was read: note its end, then read the record up to its head.
        What was published before that end is in the record by then, and what comes after it is checked as ever."""
        for feed in list(self._feeds.values()):
            if feed.next_offset is not None or feed.halted_because is not None:
                continue
            place = TopicPartition(self._topic, feed.key.partition)
            end = (await self._reader.bounds([place]))[place].end
            head = (await self._store.record_marks(feed.key.partition, ())).head_sequence
            if await self._projector.fill(feed, head):
                feed.next_offset = end
                self._must_assign = True

    async def _look_behind(self) -> None:
        """A feed that twice in a row stands at the same place behind the record, with nothing more to read, is read on
        from the record. Once may be an event that is committed and not yet published."""
        now = asyncio.get_running_loop().time()
        if now - self._behind_checked < BEHIND_CHECK_INTERVAL_S:
            return
        self._behind_checked = now
        before, self._behind = self._behind, {}
        for partition in sorted({key.partition for key in self._feeds}):
            if not self._reader.caught_up(TopicPartition(self._topic, partition)):
                continue
            head = (await self._store.record_marks(partition, ())).head_sequence
            for key, feed in self._feeds.items():
                if key.partition == partition and feed.halted_because is None and feed.sequence < head:
                    if before.get(key) == feed.sequence:
                        log.warning("going on from the record: the topic lacks events", partition=partition)
                        feed.next_offset = None
                    else:
                        self._behind[key] = feed.sequence

    async def _find_out(self, keys: Collection[FeedKey]) -> None:
        """After a fence that did not hold: was it a rebuild, or does another worker hold the partition?"""
        versions = await self._versions()
        for key in keys:
            self._feeds.pop(key, None)
            if versions[key.read_model] == key.version:
                log.warning("fenced: another worker holds it", read_model=key.read_model, partition=key.partition)
                self._lost = True
        self._checked = 0.0
        self._must_assign = True

    async def _rejoin(self) -> None:
        """Leave the group and join again, so that a claim too many costs one rebalance, and no partition is left
        without a holder."""
        self._lost = False
        self._forget()
        await self._wait(self._random.uniform(0, REJOIN_WAIT_MAX_S))
        if not self._stopping.is_set():
            await self._membership.rejoin()

    def _forget(self) -> None:
        self._epochs.update({key: feed.epoch for key, feed in self._feeds.items()})
        self._feeds.clear()
        self._checked = 0.0
        self._must_assign = True

    def _assign(self) -> None:
        """Read on, on every partition, at the lowest offset that one of its feeds needs."""
        positions: dict[TopicPartition, int] = {}
        for feed in self._feeds.values():
            if feed.halted_because is None and feed.next_offset is not None:
                place = TopicPartition(self._topic, feed.key.partition)
                positions[place] = min(positions.get(place, feed.next_offset), feed.next_offset)
        self._reader.assign(positions)
        self._must_assign = False

    def _halted(self) -> int:
        return sum(feed.halted_because is not None for feed in self._feeds.values())

    def _may_go_on(self) -> bool:
        """Asked during long work: the loop is alive, and whether the assignment is still the one it works for."""
        self._membership.turned()
        return self._membership.generation == self._generation and not self._stopping.is_set()

    # --- when something is away ---

    async def _insist(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do it; while Kafka or Postgres is away, say so, wait, and try again."""
        while not self._stopping.is_set():
            try:
                await step()
            except _AWAY as error:
                if isinstance(error, StoreUnavailableError):
                    self._forget()
                delay = self._back_off.next_s()
                self._away = str(error)
                say = log.error if isinstance(error, ForeignLedgerError) else log.warning
                say("waiting: a server is away", error=str(error), again_in_s=round(delay, 1))
                self._membership.turned()
                await self._wait(delay)
            else:
                if self._away is not None:
                    log.info("the servers are back")
                    self._away = None
                    self._back_off.reset()
                return

    async def _wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

    async def _close(self) -> None:
        held = {key: feed.epoch for key, feed in self._feeds.items()}
        if held:
            try:
                await self._store.release(held)
            except StoreUnavailableError as error:
                log.info("not released, others take over all the same", error=str(error))
        await self._membership.stop()
        await self._reader.stop()
        await self._store.stop()
