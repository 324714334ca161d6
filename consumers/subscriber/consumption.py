"""Working through what FastStream has polled: events and parked records of the assigned partitions, one at a time."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError

from consumers.subscriber.delivery import Delivery
from consumers.subscriber.errors import (
    DivergedError,
    InterruptedDeliveryError,
    ParkingUnavailableError,
    SubscriberHaltedError,
    UnreadableParkingRecordError,
)
from consumers.subscriber.lane import Lane
from consumers.subscriber.parking import decode_parking_record
from ledger.messages.event_codec import UnreadableEventError, decode_event

COMMIT_INTERVAL_S: Final = 1.0
"""At the latest so long after an event was handled, its offset is committed (plus the time of one event)."""

COMMIT_LIMIT_S: Final = 10.0
"""aiokafka tries a commit again without end while Kafka is away."""

ABANDON_LIMIT_S: Final = 5.0
"""How long a cancelled handler may take to clean up."""

PARKING_PAUSE_S: Final = 1.0
"""The wait after Kafka did not take a record for the parked topic."""

_log: Final = logging.getLogger(__name__)


class GroupConsumer(Protocol):
    """What is needed of aiokafka's consumer."""

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from this offset."""

    def pause(self, *partitions: TopicPartition) -> None:
        """Read no more of them."""

    def resume(self, *partitions: TopicPartition) -> None:
        """Read them again."""

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        """Commit the offsets with their metadata."""


class ReadingPlace:
    """Where the next record of a topic's partition is expected.

    Race: a batch that was polled before a rebalance can arrive after it, and then lies behind the place that the new
    assignment begins at; taken for the next records, it would look as if events were missing.
    """

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self._behind_a_hole: int | None = None

    def continues_with(self, offset: int) -> bool:
        """False if the record is to be fetched again from `self.offset` on. Given again, it lies behind a hole in the
        log (Kafka may leave some), and is the next one."""
        if offset <= self.offset or offset == self._behind_a_hole:
            return True
        self._behind_a_hole = offset
        return False


@dataclass(slots=True)
class AssignedPartition:
    """A partition that is ours, and how far each of its two topics has been read."""

    lane: Lane
    events: TopicPartition
    parked: TopicPartition
    log_start: int
    first_offset: int
    """Records of events below it were disposed of before; the one that is read of them is only compared."""
    next_offset: int
    """Records of events below it are disposed of now."""
    reading: ReadingPlace
    reading_parked: ReadingPlace
    parked_end: int
    """The end of the parked topic at the time of the assignment: no event is handled before it was read so far."""
    committed_offset: int | None = None
    halted: SubscriberHaltedError | None = field(default=None)

    @property
    def knows_parked_owners(self) -> bool:
        """Whether the parked topic was read to where it ended when the partition was assigned."""
        return self.reading_parked.offset >= self.parked_end

    @property
    def has_moved(self) -> bool:
        """Whether there is something to commit."""
        return self.next_offset > (self.first_offset if self.committed_offset is None else self.committed_offset)


class Consumption:
    """The assigned partitions, and the loop body that FastStream calls with each batch of records."""

    def __init__(self, delivery: Delivery, *, batch_budget_s: float) -> None:
        """
        Args:
            delivery: Shared by all lanes: one handler at a time.
            batch_budget_s: After so long a batch is left and what remains of it is polled again, so that Kafka sees us
                polling however long handlers take.
        """
        self.partitions: dict[int, AssignedPartition] = {}
        self._delivery = delivery
        self._batch_budget_s = batch_budget_s
        self._idle = asyncio.Event()
        self._idle.set()
        self._halted = asyncio.Event()
        self._deadline = 0.0
        self._last_commit = 0.0

    @property
    def halts(self) -> dict[int, SubscriberHaltedError]:
        """The halted partitions among ours, and why."""
        return {number: assigned.halted for number, assigned in self.partitions.items() if assigned.halted}

    async def wait_halted(self) -> SubscriberHaltedError:
        """Wait until a partition is halted, and return why."""
        while True:
            for halt in self.halts.values():
                return halt
            self._halted.clear()
            await self._halted.wait()

    async def take_batch(self, consumer: GroupConsumer, records: Sequence[ConsumerRecord[Any, Any]]) -> None:
        """Dispose of the records, in their order within each partition. Never raises but when cancelled: FastStream
        would log the exception and go on behind the records that we have not handled."""
        loop = asyncio.get_running_loop()
        self._deadline = loop.time() + self._batch_budget_s
        self._idle.clear()
        left: dict[TopicPartition, int] = {}
        """Per topic and partition, the first record that has to be read again."""
        stuck = False
        try:
            for record in records:
                place = TopicPartition(record.topic, record.partition)
                assigned = self.partitions.get(record.partition)
                if assigned is None or assigned.halted or place in left:
                    continue
                if not self._may_go_on():
                    left[place] = record.offset
                    continue
                try:
                    read_again_from = await self._take(consumer, assigned, place, record)
                    if read_again_from is not None:
                        left[place] = read_again_from
                except InterruptedDeliveryError:
                    left[place] = record.offset
                except ParkingUnavailableError as error:
                    left[place], stuck = record.offset, True
                    _log.error("cannot park, will try again in %g s: %s", PARKING_PAUSE_S, error)
                except SubscriberHaltedError as halt:
                    self.halt(consumer, assigned, halt)
                except Exception as error:  # whatever it is, going on would skip the record
                    _log.exception("unexpected error on %s offset %d", place, record.offset)
                    why = f"unexpected error at offset {record.offset} of {record.topic}: {error!r}"
                    self.halt(consumer, assigned, SubscriberHaltedError(record.partition, why))
                if loop.time() - self._last_commit >= COMMIT_INTERVAL_S:
                    await self.commit(consumer)
            await self.commit(consumer)
            for place, offset in left.items():
                if place.partition in self.partitions:
                    consumer.seek(place, offset)
        finally:
            self._idle.set()
        if stuck:
            await asyncio.sleep(PARKING_PAUSE_S)

    def _may_go_on(self) -> bool:
        return not self._delivery.interrupted and asyncio.get_running_loop().time() < self._deadline

    async def _take(
        self,
        consumer: GroupConsumer,
        assigned: AssignedPartition,
        place: TopicPartition,
        record: ConsumerRecord[Any, Any],
    ) -> int | None:
        """Dispose of one record, or return the offset from which the topic is to be read again."""
        try:
            if place == assigned.parked:
                return await self._take_parked(consumer, assigned, record)
            return await self._take_event(assigned, record)
        except (DivergedError, UnreadableEventError, UnreadableParkingRecordError) as error:
            why = f"offset {record.offset} of {record.topic}: {error}"
            if isinstance(error, UnreadableEventError):
                why += ". Only the ledger may write there: find out who did, or update this app if the ledger is newer"
            if isinstance(error, UnreadableParkingRecordError):
                why += (
                    ". It may hide parked events: only this app and `ledger parked` may write there, find out who did"
                )
            raise SubscriberHaltedError(record.partition, why) from error

    async def _take_event(self, assigned: AssignedPartition, record: ConsumerRecord[Any, Any]) -> int | None:
        reading = assigned.reading
        if not assigned.knows_parked_owners or not reading.continues_with(record.offset):
            return reading.offset
        if record.offset < reading.offset:
            return None
        event = decode_event(record.value)
        if record.offset < assigned.first_offset:
            if not assigned.lane.guard.recall(event):
                return _begin_again(assigned)
        else:
            await assigned.lane.take(event)
            assigned.next_offset = record.offset + 1
        reading.offset = record.offset + 1
        return None

    async def _take_parked(
        self, consumer: GroupConsumer, assigned: AssignedPartition, record: ConsumerRecord[Any, Any]
    ) -> int | None:
        reading = assigned.reading_parked
        if not reading.continues_with(record.offset):
            return reading.offset
        if record.offset >= reading.offset:
            parking_record = decode_parking_record(record.value)
            knew = assigned.knows_parked_owners
            if parking_record is None:
                _log.warning("a record of a newer kind at offset %d of %s is ignored", record.offset, record.topic)
            elif knew:
                await assigned.lane.note(record.offset, parking_record)
            else:
                assigned.lane.parked.apply(parking_record)
            reading.offset = record.offset + 1
            if not knew and assigned.knows_parked_owners:
                consumer.resume(assigned.events)
        if not assigned.knows_parked_owners or await assigned.lane.release(self._may_go_on):
            return None
        # There was no time to release all. The last record, read again, is not taken again, but brings us here.
        return record.offset

    def halt(self, consumer: GroupConsumer, assigned: AssignedPartition, halt: SubscriberHaltedError) -> None:
        """Read no more of this partition. The others go on; nothing is skipped."""
        if self.partitions.get(assigned.lane.partition) is not assigned:
            return  # it was taken away meanwhile; whoever has it now will see for himself
        consumer.pause(assigned.events, assigned.parked)
        assigned.halted = halt
        self._halted.set()
        _log.error("%s", halt)

    async def commit(self, consumer: GroupConsumer) -> None:
        """Commit what was disposed of, with the checkpoint as metadata. A failure is logged: the offsets are committed
        with the next batch, or the events come again."""
        self._last_commit = asyncio.get_running_loop().time()
        moved = [assigned for assigned in self.partitions.values() if assigned.has_moved]
        offsets = {}
        for assigned in moved:
            last = assigned.lane.guard.last
            offsets[assigned.events] = (assigned.next_offset, last.as_text if last else "")
        if not offsets:
            return
        try:
            async with asyncio.timeout(COMMIT_LIMIT_S):
                await consumer.commit(offsets)
        except (KafkaError, IllegalStateError, TimeoutError) as error:
            _log.warning("offsets were not committed (the events may be handled again): %r", error)
            return
        for assigned in moved:
            assigned.committed_offset = offsets[assigned.events][0]

    async def finish(self, limit_s: float) -> None:
        """Begin nothing more and wait for the batch in hand; a handler that needs longer than the limit is cancelled.

        Afterwards `delivery.go_on()` takes up work again.
        """
        self._delivery.interrupt()
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            # Its partition goes to another member in any case, which begins the same event: two handlers of one owner
            # at a time would break the order, a cancelled one is like a crash.
            _log.warning("a handler is cancelled: it did not finish within %g s of losing its partition", limit_s)
            self._delivery.abandon()
            try:
                async with asyncio.timeout(ABANDON_LIMIT_S):
                    await self._idle.wait()
            except TimeoutError:
                _log.error("the handler did not let itself be cancelled; it runs on beside the partition's new holder")


def _begin_again(assigned: AssignedPartition) -> int:
    """The topic was written again, so its offsets have moved: read it from its start; what was seen is recognised."""
    _log.warning("%s was written again: reading it from its start", assigned.events)
    assigned.first_offset = assigned.next_offset = assigned.log_start
    assigned.committed_offset = None
    assigned.reading = ReadingPlace(assigned.log_start)
    return assigned.log_start
