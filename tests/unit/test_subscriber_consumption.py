"""What a batch of records may not do to an app, whatever is in it and whenever it arrives."""

from collections.abc import Callable
from typing import Any

import pytest
from aiokafka import ConsumerRecord, TopicPartition

from consumers.subscriber import EventChain, RecordedEvent
from consumers.subscriber.assignment import Assignment
from consumers.subscriber.consumption import AssignedPartition, Consumption, ReadingPlace
from consumers.subscriber.delivery import Delivery, RetryPolicy
from consumers.subscriber.handlers import Handlers, Route
from consumers.subscriber.in_memory import FIRST_OCCURRENCE, InMemoryParkingLog
from consumers.subscriber.lane import Lane
from consumers.subscriber.parking import ParkedPartition
from consumers.subscriber.sequence_guard import BEGINNING, SequenceGuard
from ledger.messages.event_codec import encode_event

EVENTS, PARKED = TopicPartition("events", 0), TopicPartition("parked", 0)


class Calls:
    """In the place of Kafka's consumer: what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.committed: dict[TopicPartition, int] = {}

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.told.append(("seek", partition, offset))

    def pause(self, *partitions: TopicPartition) -> None:
        self.told.append(("pause", *partitions))

    def resume(self, *partitions: TopicPartition) -> None:
        self.told.append(("resume", *partitions))

    async def commit(self, offsets: dict[TopicPartition, tuple[int, str]]) -> None:
        self.committed.update({place: offset for place, (offset, _) in offsets.items()})


class Bench:
    """One partition of an app whose handler notes what it was given."""

    def __init__(self, parking_log: Any = None, first_offset: int = 0) -> None:
        self.handled: list[int] = []
        self.consumer = Calls()
        handlers = Handlers()
        handlers.add(Route(self._handle, None, None, None, None))
        delivery = Delivery(RetryPolicy(attempts=1))
        self.consumption = Consumption(delivery, batch_budget_s=60)
        self.lane = Lane(
            0,
            group="g",
            guard=SequenceGuard(0, BEGINNING),
            handlers=handlers,
            delivery=delivery,
            parked=ParkedPartition("g"),
            parking_log=parking_log or InMemoryParkingLog(),
            park_failures=True,
            now=lambda: FIRST_OCCURRENCE,
        )
        self.consumption.partitions[0] = AssignedPartition(
            lane=self.lane,
            events=EVENTS,
            parked=PARKED,
            log_start=0,
            first_offset=first_offset,
            next_offset=first_offset,
            reading=ReadingPlace(first_offset),
            reading_parked=ReadingPlace(0),
            parked_end=0,
        )

    async def _handle(self, event: RecordedEvent) -> None:
        self.handled.append(event.sequence)

    async def take(self, *records: ConsumerRecord[Any, Any]) -> None:
        await self.consumption.take_batch(self.consumer, records)


def record(event: RecordedEvent, offset: int) -> ConsumerRecord[Any, Any]:
    value = encode_event(event)
    return ConsumerRecord("events", 0, offset, 0, 0, event.owner_id.encode(), value, None, 0, len(value), ())


@pytest.fixture
def events() -> list[RecordedEvent]:
    chain = EventChain()
    return [chain.posted("ada", "CREDIT_ADD", 1) for _ in range(5)]


async def test_an_error_that_nobody_foresaw_halts_and_skips_nothing(
    events: list[RecordedEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    judge: Callable[[RecordedEvent], Any] = bench.lane.guard.judge

    def broken(event: RecordedEvent) -> Any:
        if event.sequence == 2:
            raise ZeroDivisionError("a defect of the kit")
        return judge(event)

    monkeypatch.setattr(bench.lane.guard, "judge", broken)
    await bench.take(*(record(event, offset) for offset, event in enumerate(events)))
    assert bench.handled == [1]
    assert "ZeroDivisionError" in bench.consumption.halts[0].why
    assert ("pause", EVENTS, PARKED) in bench.consumer.told
    assert bench.consumer.committed == {EVENTS: 1}


async def test_a_batch_that_was_polled_before_a_rebalance_is_read_again_from_where_we_are(
    events: list[RecordedEvent],
) -> None:
    """It would look as if events were missing, and the partition would be halted for nothing."""
    bench = Bench()
    await bench.take(record(events[0], 0))
    await bench.take(record(events[3], 3), record(events[4], 4))
    assert not bench.consumption.halts
    assert ("seek", EVENTS, 1) in bench.consumer.told
    await bench.take(*(record(event, offset) for offset, event in enumerate(events)))
    assert bench.handled == [1, 2, 3, 4, 5]


async def test_what_is_assigned_stands_still_before_anything_else() -> None:
    bench = Bench()
    assignment = Assignment(
        bench.consumption,
        Delivery(RetryPolicy()),
        group="g",
        start="beginning",
        events_topic="events",
        parked_topic="parked",
        revoke_limit_s=1,
        consumer=lambda: bench.consumer,  # type: ignore[arg-type, return-value]
        admin=lambda: None,  # type: ignore[arg-type, return-value]
        new_lane=lambda partition, guard: bench.lane,
    )
    await assignment.on_partitions_assigned({EVENTS})
    assignment.cancel()
    assert bench.consumer.told[0] == ("pause", EVENTS)
