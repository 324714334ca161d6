"""Taking over partitions: where to go on, and what is parked, before the first event is handled."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import IllegalStateError, KafkaError

from consumers.subscriber.consumption import AssignedPartition, Consumption, ReadingPlace
from consumers.subscriber.delivery import Delivery
from consumers.subscriber.errors import SubscriberHaltedError
from consumers.subscriber.lane import Lane
from consumers.subscriber.sequence_guard import BEGINNING, Checkpoint, SequenceGuard

PREPARE_AGAIN_S: Final = 1.0
"""The wait after Kafka did not answer while partitions were prepared."""

Start = Literal["beginning", "now"]

_log: Final = logging.getLogger(__name__)


class Assignment(ConsumerRebalanceListener):
    """The group's rebalance listener.

    aiokafka sends no heartbeats while the listener runs, so it only pauses what was assigned; a task of its own finds
    out where to go on, then seeks and resumes.

    Where a restarted subscriber goes on, and after which event (sequence and hash), it reads from the committed offset
    and its metadata. One commit holds both, so they never disagree, and an offset in the middle of a repetition of
    older events says all the same which event was the newest. The record before the offset is read again and compared,
    so that a topic that was recreated or written again is found out; where another tool has set the offset, which
    leaves no metadata, that record says what was seen.
    """

    def __init__(
        self,
        consumption: Consumption,
        delivery: Delivery,
        *,
        group: str,
        start: Start,
        events_topic: str,
        parked_topic: str,
        revoke_limit_s: float,
        consumer: Callable[[], AIOKafkaConsumer],
        admin: Callable[[], AIOKafkaAdminClient],
        new_lane: Callable[[int, SequenceGuard], Lane],
    ) -> None:
        self._consumption = consumption
        self._delivery = delivery
        self._group = group
        self._start = start
        self._events_topic = events_topic
        self._parked_topic = parked_topic
        self._revoke_limit_s = revoke_limit_s
        self._consumer = consumer
        self._admin = admin
        self._new_lane = new_lane
        self._preparing: asyncio.Task[None] | None = None

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Finish the event in hand within a limit, commit, and forget everything: all partitions are revoked."""
        self.cancel()
        await self._consumption.finish(self._revoke_limit_s)
        if revoked:
            await self._consumption.commit(self._consumer())
        self._consumption.partitions.clear()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Keep everything still until it is prepared."""
        consumer = self._consumer()
        # Before any await: a poll is in flight. A position of some kind, or aiokafka looks one up by itself and raises
        # for a group that has none; nothing is fetched there, as the partition is paused.
        consumer.pause(*assigned)
        for place in assigned:
            consumer.seek(place, 0)
        self.cancel()
        self._delivery.go_on()
        self._preparing = asyncio.create_task(self._prepare(consumer, frozenset(assigned)))

    def cancel(self) -> None:
        """Prepare nothing more."""
        if self._preparing is not None:
            self._preparing.cancel()
            self._preparing = None

    async def _prepare(self, consumer: AIOKafkaConsumer, assigned: frozenset[TopicPartition]) -> None:
        while True:
            try:
                await self._take_over(consumer, assigned)
            except (KafkaError, IllegalStateError, TimeoutError) as error:
                _log.warning("partitions are not taken over yet, will try again: %r", error)
                await asyncio.sleep(PREPARE_AGAIN_S)
            except (
                Exception
            ):  # nobody awaits this task: without a word here the partitions would stand still in silence
                _log.exception("partitions cannot be taken over; trying again")
                await asyncio.sleep(PREPARE_AGAIN_S)
            else:
                return

    async def _take_over(self, consumer: AIOKafkaConsumer, assigned: frozenset[TopicPartition]) -> None:
        events = sorted(place for place in assigned if place.topic == self._events_topic)
        parked = {place.partition: place for place in assigned if place.topic == self._parked_topic}
        missing = [place.partition for place in events if place.partition not in parked]
        if missing:
            # Range gives equal partitions of equal topics to one member, unless a member of the group, such as another
            # version of the app, does not subscribe to both.
            _log.warning("partitions %s wait: another member holds them of %s", missing, self._parked_topic)
        events = [place for place in events if place.partition in parked]
        if not events:
            return
        starts: Mapping[TopicPartition, int] = await consumer.beginning_offsets([*events, *parked.values()])
        ends: Mapping[TopicPartition, int] = await consumer.end_offsets([*events, *parked.values()])
        committed = await self._admin().list_consumer_group_offsets(self._group, partitions=events)
        taken = []
        for place in events:
            offset, metadata = committed.get(place, (-1, ""))
            taken.append(self._assigned(place, parked[place.partition], offset, metadata, starts, ends))
        if self._start == "now":
            # Once and for all: a group that read nothing before its first restart must not begin at a later "now".
            new = {each.events: (each.first_offset, "") for each in taken if each.committed_offset is None}
            if new:
                await consumer.commit(new)
        # From here on no await: nothing is polled in between.
        for each in taken:
            self._consumption.partitions[each.lane.partition] = each
            if each.halted is not None:
                self._consumption.halt(consumer, each, each.halted)
                continue
            consumer.seek(each.events, each.reading.offset)
            consumer.seek(each.parked, each.reading_parked.offset)
            consumer.resume(each.parked)
            if each.knows_parked_owners:
                consumer.resume(each.events)

    def _assigned(
        self,
        events: TopicPartition,
        parked: TopicPartition,
        committed_offset: int,
        metadata: str,
        starts: Mapping[TopicPartition, int],
        ends: Mapping[TopicPartition, int],
    ) -> AssignedPartition:
        log_start, log_end = starts[events], ends[events]
        checkpoint = Checkpoint.parse(metadata)
        halted = None
        is_new = committed_offset < 0
        first_offset = committed_offset
        if is_new:
            first_offset = log_start if self._start == "beginning" else log_end
        elif not log_start <= first_offset <= log_end:
            # The topic lost its end, or was written again. From its start on, the checkpoint recognises what was seen.
            # (A topic that is deleted takes the group's offsets with it: then the group is a new one.)
            _log.warning("offset %d of %s does not exist: reading it from its start", first_offset, events)
            first_offset = log_start
            if checkpoint is None:
                halted = SubscriberHaltedError(
                    events.partition,
                    f"the group's offset {committed_offset} does not exist, {events.topic} holds {log_start} to "
                    f"{log_end}, and nothing says which event was seen last. Set the offsets of group {self._group} "
                    "(kafka-consumer-groups.sh --reset-offsets), or use a new group name",
                )
        if first_offset == log_start and checkpoint is None:
            checkpoint = BEGINNING
        return AssignedPartition(
            lane=self._new_lane(events.partition, SequenceGuard(events.partition, checkpoint)),
            events=events,
            parked=parked,
            log_start=log_start,
            first_offset=first_offset,
            next_offset=first_offset,
            reading=ReadingPlace(max(log_start, first_offset - 1)),
            reading_parked=ReadingPlace(starts[parked]),
            parked_end=ends[parked],
            committed_offset=None if is_new else first_offset,
            halted=halted,
        )


def utc_now() -> datetime:
    """The clock of parked records."""
    return datetime.now(UTC)
