"""An in-memory Kafka: one InMemoryBroker is one cluster, its parts pass the same contract suite as the real ones.

Deterministic on any asyncio loop: the only clock is `loop.time()`, and nothing is random. `step` is the seam for
faults: it is awaited at every operation, may wait, and may raise what the operation may raise.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final, Literal

from ledger.broker.protocol import (
    Bounds,
    BrokerUnavailableError,
    OffsetOutOfRangeError,
    OutgoingRecord,
    PublishError,
    Record,
    TopicPartition,
    TopicSpec,
)
from ledger.testing.broker_group import InMemoryGroup, InMemoryMembership

Operation = Literal["start", "poll", "bounds", "partition_counts", "create", "publish", "acknowledge", "rebalance"]
"""`publish`: before a batch is appended; `acknowledge`: it is appended, and the publisher does not know yet."""

Step = Callable[[Operation], Awaitable[None]]

BATCH_RECORDS_MAX: Final = 500
"""The twin's publisher appends and acknowledges so many at once, if not told otherwise: a long list can be published in
part."""


class _Log:
    """One partition. `start` rises when retention removes records."""

    def __init__(self) -> None:
        self.start = 0
        self.records: list[Record] = []

    @property
    def end(self) -> int:
        return self.start + len(self.records)


async def _no_step(operation: Operation) -> None:
    """Other tasks have their turn, as they do whenever a real client sends something."""
    await asyncio.sleep(0)


class InMemoryBroker:
    """A cluster. Make topics, then readers, publishers, memberships and admins of it.

    While `available` is False every operation fails as it would with all brokers away.
    """

    def __init__(self, step: Step = _no_step, publish_batch_records_max: int = BATCH_RECORDS_MAX) -> None:
        self.available = True
        self.publish_batch_records_max = publish_batch_records_max
        self.leaderless: set[TopicPartition] = set()
        """Partitions that nobody leads: they can neither be read nor written."""
        self._step = step
        self._topics: dict[str, list[_Log]] = {}
        self._groups: dict[str, InMemoryGroup] = {}
        self._waiting: dict[asyncio.Future[None], Collection[TopicPartition]] = {}
        """Of readers: woken when one of these partitions gets a record."""

    def reader(self) -> "InMemoryRecordReader":
        """A RecordReader of this cluster."""
        return InMemoryRecordReader(self)

    def publisher(self) -> "InMemoryPublisher":
        """A Publisher of this cluster."""
        return InMemoryPublisher(self)

    def admin(self) -> "InMemoryTopicAdmin":
        """A TopicAdmin of this cluster."""
        return InMemoryTopicAdmin(self)

    def membership(self, group_id: str, topic: str, loop_stall_limit_s: float | None = None) -> InMemoryMembership:
        """A Membership in a group of this cluster."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = InMemoryGroup(lambda: self.step("rebalance"))
        return InMemoryMembership(group, lambda: len(self._topics.get(topic, ())), self.connect, loop_stall_limit_s)

    def rebalance(self, group_id: str) -> None:
        """What a coordinator may do at any moment, for no reason that a member could see: others get the partitions."""
        if group_id in self._groups:
            self._groups[group_id].shuffle()

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic; one that exists is left as it is."""
        self._topics.setdefault(name, [_Log() for _ in range(partitions)])

    def delete_topic(self, name: str) -> None:
        """Delete a topic with all its records; created again, its offsets start at 0."""
        del self._topics[name]

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """Append a record as any foreign client could; returns its offset."""
        log = self._topics[topic][partition]
        timestamp_ms = int(asyncio.get_running_loop().time() * 1000)
        log.records.append(Record(topic, partition, log.end, timestamp_ms, key, value))
        place = TopicPartition(topic, partition)
        for waiter, wanted in self._waiting.items():
            if place in wanted:
                _wake(waiter)
        return log.end - 1

    def remove_before(self, topic: str, partition: int, start: int) -> None:
        """What retention does: remove the records below offset `start`."""
        log = self._topics[topic][partition]
        removed = min(max(start - log.start, 0), len(log.records))
        del log.records[:removed]
        log.start += removed

    def records(self, topic: str, partition: int) -> Sequence[Record]:
        """All records that a partition holds, in offset order."""
        return tuple(self._topics[topic][partition].records)

    def counts(self) -> dict[str, int]:
        """All topics and their numbers of partitions."""
        return {name: len(logs) for name, logs in self._topics.items()}

    async def connect(self) -> None:
        """What every client does first. Raises BrokerUnavailableError."""
        await self.step("start")
        self.require_available()

    async def step(self, operation: Operation) -> None:
        """Await the hook for faults."""
        await self._step(operation)

    def require_available(self) -> None:
        """Raises BrokerUnavailableError while `available` is False."""
        if not self.available:
            raise BrokerUnavailableError("the in-memory broker is away")

    def log(self, topic_partition: TopicPartition) -> _Log | None:
        """The log of a partition, None if there is no such topic or partition."""
        logs = self._topics.get(topic_partition[0], ())
        return logs[topic_partition[1]] if topic_partition[1] < len(logs) else None

    async def arrival(self, among: Collection[TopicPartition], timeout_s: float) -> None:
        """Return when something was appended to one of these partitions, or after `timeout_s`."""
        loop = asyncio.get_running_loop()
        # Not asyncio.timeout around an Event: readers that wait are what a simulation does most.
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[waiter] = among
        alarm = loop.call_later(timeout_s, _wake, waiter)
        try:
            await waiter
        finally:
            alarm.cancel()
            del self._waiting[waiter]


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


class InMemoryRecordReader:
    """RecordReader of an InMemoryBroker."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._positions: dict[TopicPartition, int] = {}
        self._answered: dict[TopicPartition, int] = {}
        """The end of the log by the broker's last answer since `assign`."""
        self._doubtful: set[TopicPartition] = set()
        self._started = False

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError."""
        await self._broker.connect()
        self._started = True

    async def stop(self) -> None:
        """Disconnect."""
        self._started = False
        self._positions.clear()
        self._answered.clear()

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Replace the whole assignment."""
        self._require_started()
        self._positions = {TopicPartition(*tp): offset for tp, offset in positions.items()}
        self._answered = {}
        self._doubtful = set()

    async def poll(
        self, max_records: int, timeout_s: float, only: Collection[TopicPartition] | None = None
    ) -> Sequence[Record]:
        """Up to `max_records` records."""
        self._require_started()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            await self._broker.step("poll")
            self._broker.require_available()
            records = self._read(max_records, only)
            remaining_s = deadline - loop.time()
            if records or remaining_s <= 0:
                return records
            await self._broker.arrival(self._positions.keys() if only is None else only, remaining_s)

    def _read(self, records_max: int, only: Collection[TopicPartition] | None) -> list[Record]:
        taken: list[Record] = []
        out_of_range: OffsetOutOfRangeError | None = None
        for topic_partition in list(self._positions):
            if only is not None and topic_partition not in only:
                continue
            log = self._broker.log(topic_partition)
            if log is None or topic_partition in self._broker.leaderless:
                self._doubtful.add(topic_partition)
                continue
            position = self._positions[topic_partition]
            if not log.start <= position <= log.end:
                out_of_range = out_of_range or OffsetOutOfRangeError(topic_partition, position)
                continue
            self._answered[topic_partition] = log.end
            begin = position - log.start
            part = log.records[begin : begin + records_max - len(taken)]
            if part:
                taken += part
                # Served last next time, so that one busy partition cannot hold up the others.
                del self._positions[topic_partition]
                self._positions[topic_partition] = position + len(part)
        if not taken and out_of_range is not None:
            raise out_of_range
        return taken

    def doubtful(self) -> Collection[TopicPartition]:
        """Those that had no log, or no leader, at a poll since `assign`."""
        return self._doubtful

    def caught_up(self, topic_partition: TopicPartition) -> bool:
        """Whether the last answer showed nothing behind the position."""
        end = self._answered.get(topic_partition)
        return end is not None and self._positions[topic_partition] >= end

    async def bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """The offsets that the logs hold. Raises BrokerUnavailableError, also for a topic that is not there."""
        self._require_started()
        await self._broker.step("bounds")
        self._broker.require_available()
        bounds = {}
        for topic_partition in topic_partitions:
            log = self._broker.log(topic_partition)
            if log is None:
                raise BrokerUnavailableError(f"{topic_partition} has no leader")
            if topic_partition in self._broker.leaderless:
                raise BrokerUnavailableError(f"{topic_partition} has no leader")
            bounds[topic_partition] = Bounds(log.start, log.end)
        return bounds

    async def reachable_bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """Like `bounds`, without partitions that have no leader. Raises BrokerUnavailableError."""
        led = [tp for tp in topic_partitions if self._broker.log(tp) is not None and tp not in self._broker.leaderless]
        return await self.bounds(led)

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics and their numbers of partitions. Raises BrokerUnavailableError."""
        self._require_started()
        await self._broker.step("partition_counts")
        self._broker.require_available()
        return self._broker.counts()

    def _require_started(self) -> None:
        if not self._started:
            raise BrokerUnavailableError("the reader is not started")


class InMemoryPublisher:
    """Publisher of an InMemoryBroker. It checks what callers promise: one call per partition at a time."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self._started = False
        self._failure: Exception | None = None
        self._under_way: set[TopicPartition] = set()

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError."""
        await self._broker.connect()
        self._started = True

    async def stop(self) -> None:
        """Disconnect. Publications under way fail."""
        self._failure = self._failure or PublishError("the publisher was stopped")

    async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
        """Append these records in order; return the offset of the first."""
        if not records:
            raise ValueError("nothing to publish")
        place = TopicPartition(topic, partition)
        assert place not in self._under_way, f"two publications to {place} at the same time"
        self._under_way.add(place)
        first_offset: int | None = None
        try:
            size = self._broker.publish_batch_records_max
            for begin in range(0, len(records), size):
                offset = await self._append(place, records[begin : begin + size])
                first_offset = offset if first_offset is None else first_offset
        except asyncio.CancelledError:
            self._failure = self._failure or PublishError(f"a publication to {place} was cancelled")
            raise
        except (BrokerUnavailableError, PublishError) as error:
            self._failure = self._failure or error
            raise PublishError(f"{place}: {error}") from error
        finally:
            self._under_way.discard(place)
        assert first_offset is not None
        return first_offset

    async def _append(self, place: TopicPartition, records: Sequence[OutgoingRecord]) -> int:
        self._require_sound()
        await self._broker.step("publish")
        self._require_sound()
        self._broker.require_available()
        if self._broker.log(place) is None or place in self._broker.leaderless:
            raise PublishError("there is no such topic or partition")
        offsets = [self._broker.append(*place, record.key, record.value) for record in records]
        await self._broker.step("acknowledge")
        self._require_sound()
        return offsets[0]

    def _require_sound(self) -> None:
        if self._failure is not None:
            raise PublishError(f"this publisher is at its end: {self._failure}")
        if not self._started:
            raise PublishError("the publisher is not started")


class InMemoryTopicAdmin:
    """TopicAdmin of an InMemoryBroker. `created` keeps the specifications, as tests look at retentions."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self._broker = broker
        self.created: list[TopicSpec] = []

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics and their numbers of partitions. Raises BrokerUnavailableError."""
        await self._broker.step("partition_counts")
        self._broker.require_available()
        return self._broker.counts()

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create these topics; one that exists by now is left as it is. Raises BrokerUnavailableError."""
        await self._broker.step("create")
        self._broker.require_available()
        for spec in specs:
            self._broker.create_topic(spec.name, spec.partitions)
            self.created.append(spec)
