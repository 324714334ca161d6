"""Subscribers that join, leave, die and freeze while events are handled, and a Kafka that does not take parked ones."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from consumers.subscriber import RecordedEvent, assignment, consumption, list_parked
from consumers.subscriber import subscriber as subscriber_module
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord, PublishError
from service.stack.interface import StackError
from service.stack.local_kafka import LocalKafka
from service.stack.ports import choose_free
from service.stack.resolver import default_cache
from tests.servers import say, server_home
from tests.subscriber_process import subscriber_process
from tests.subscriber_topics import APP, Bench, Seen, bench, until

pytestmark = pytest.mark.integration

PARTITIONS = 5
"""Odd: round robin over two topics would give partition n of one to another member than partition n of the other."""

OWNERS = [f"owner-{number}" for number in range(24)]
MOVED_WITHIN_S = 20.0
"""The session timeout, and the rebalance."""


@pytest.fixture
async def ledger(kafka_bootstrap: str) -> AsyncIterator[Bench]:
    async with bench(kafka_bootstrap, PARTITIONS) as made:
        yield made


def rounds(ledger: Bench, count: int) -> list[RecordedEvent]:
    return [ledger.chain.posted(owner, "CREDIT_ADD", 1) for _ in range(count) for owner in OWNERS]


@asynccontextmanager
async def load(ledger: Bench) -> AsyncIterator[list[RecordedEvent]]:
    """Events without end, until the block is left: about 500 a second."""
    published: list[RecordedEvent] = []
    enough = asyncio.Event()

    async def publish() -> None:
        while not enough.is_set():
            events = rounds(ledger, 1)
            await ledger.publish(*events)
            published.extend(events)
            await asyncio.sleep(len(events) / 500)

    publishing = asyncio.create_task(publish())
    try:
        yield published
    finally:
        enough.set()
        await publishing


def assert_each_once_and_in_order(handled: Sequence[RecordedEvent], events: Sequence[RecordedEvent]) -> None:
    assert sorted(event.position for event in handled) == sorted(event.position for event in events)
    for partition in range(PARTITIONS):
        sequences = [event.sequence for event in handled if event.partition == partition]
        assert sequences == sorted(sequences)


async def test_members_that_join_and_leave_in_the_middle_of_handlers_double_and_reorder_nothing(ledger: Bench) -> None:
    handled: list[RecordedEvent] = []
    members = [ledger.subscriber() for _ in range(3)]
    handled_by = [0, 0, 0]

    def declare(number: int) -> None:
        @members[number].on()
        async def handle(event: RecordedEvent) -> None:
            await asyncio.sleep(0.001)
            handled.append(event)
            handled_by[number] += 1

    for number in range(3):
        declare(number)
    async with members[0]:
        async with load(ledger) as events:
            await until(lambda: handled_by[0], "the first member")
            async with members[1]:
                await until(lambda: handled_by[1], "the second member")
                async with members[2]:
                    await until(lambda: handled_by[2], "the third member")
                by_the_second = handled_by[1]
                await until(lambda: handled_by[1] > by_the_second, "the second member without the third")
            by_the_first = handled_by[0]
            await until(lambda: handled_by[0] > by_the_first, "the first member alone")
        await until(lambda: len(handled) >= len(events), "all events")
    assert_each_once_and_in_order(handled, events)


async def test_a_rebalance_waits_for_the_handler_in_hand(ledger: Bench) -> None:
    first, second = ledger.subscriber(), ledger.subscriber()
    began, may_end = asyncio.Event(), asyncio.Event()
    handled: list[RecordedEvent] = []

    async def slow(event: RecordedEvent) -> None:
        began.set()
        await may_end.wait()
        handled.append(event)

    first.on()(slow)
    second.on()(slow)
    events = rounds(ledger, 1)
    await ledger.publish(*events)
    async with first:
        await began.wait()
        async with asyncio.TaskGroup() as group:
            joining = group.create_task(second.start())
            await until(lambda: first._delivery.interrupted, "the rebalance")
            assert not second.health
            may_end.set()
            await joining
        await until(lambda: len(handled) >= len(events), "all events")
        await second.stop()
    assert_each_once_and_in_order(handled, events)


async def test_a_handler_that_outlasts_the_rebalance_is_cancelled_and_its_event_begins_anew_elsewhere(
    ledger: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "REVOKE_LIMIT_S", 0.2)
    first, second, seen = ledger.subscriber(), ledger.subscriber(), Seen()
    stuck, cancelled = [], []

    @first.on()
    async def endless(event: RecordedEvent) -> None:
        stuck.append(event.position)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.position)
            raise

    second.on()(seen)
    events = rounds(ledger, 2)
    await ledger.publish(*events)
    await first.start()
    await until(lambda: stuck, "the handler")
    await first.stop()
    assert cancelled == stuck[:1]
    async with second:
        await until(lambda: len(seen.events) == len(events), "all events")
    assert seen.positions == sorted(event.position for event in events)


@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
async def test_another_member_goes_on_when_one_is_stopped_killed_or_frozen(
    ledger: Bench, tmp_path: Path, fault: signal.Signals
) -> None:
    written = tmp_path / "handled"

    async def until_all_are_written(events: Sequence[RecordedEvent]) -> None:
        async with asyncio.timeout(MOVED_WITHIN_S):
            while {line[1:] for line in lines(written)} != as_lines(events):  # noqa: ASYNC110  another process writes
                await asyncio.sleep(0.1)

    with ExitStack() as stack:
        doomed = stack.enter_context(subscriber_process(ledger, "doomed", written))
        stack.enter_context(subscriber_process(ledger, "heir", written))
        async with load(ledger) as events:
            await until(lambda: {"doomed", "heir"} <= {line[0] for line in lines(written)}, "both members")
            doomed.send_signal(fault)
            published_before = len(events)
            await until(lambda: len(events) > published_before + 500, "events after the fault")
        await until_all_are_written(events)
        if fault is signal.SIGSTOP:
            doomed.send_signal(signal.SIGCONT)
            async with load(ledger) as more:
                thawed_at = len(lines(written))
                await until(
                    lambda: {"doomed", "heir"} <= {line[0] for line in lines(written)[thawed_at:]}, "both again"
                )
            await until_all_are_written([*events, *more])
    first_seen: dict[str, list[int]] = {}
    for _, owner, _, sequence in lines(written):
        seen = first_seen.setdefault(owner, [])
        if int(sequence) not in seen:
            seen.append(int(sequence))
    assert all(seen == sorted(seen) for seen in first_seen.values())
    if fault is signal.SIGTERM:
        assert len(lines(written)) == len(events), "a clean stop doubles nothing"


def lines(written: Path) -> list[tuple[str, ...]]:
    return [tuple(line.split()) for line in written.read_text().splitlines()] if written.exists() else []


def as_lines(events: Sequence[RecordedEvent]) -> set[tuple[str, ...]]:
    return {(event.owner_id, str(event.partition), str(event.sequence)) for event in events}


async def test_an_event_is_not_passed_over_while_kafka_does_not_take_it_for_the_parked_topic(
    ledger: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = 2

    class Refusing(KafkaPublisher):
        async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise PublishError("refused")
            return await super().publish(topic, partition, records)

    monkeypatch.setattr(subscriber_module, "KafkaPublisher", Refusing)
    events, seen, subscriber = rounds(ledger, 2), Seen(), ledger.subscriber()
    seen.failing = {events[0].owner_id}
    subscriber.on()(seen)
    await ledger.publish(*events)
    async with subscriber:
        await until(lambda: len(seen.events) == len(events) - 2, "the other owners")
    (report,) = await list_parked(ledger.bootstrap, APP, ledger.topics)
    assert list(report.events) == [event for event in events if event.owner_id == events[0].owner_id]
    assert seen.attempts >= len(events) - 2 + 9, "three attempts each time"


async def test_partitions_are_prepared_again_when_kafka_does_not_answer_at_first(
    ledger: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assignment, "PREPARE_AGAIN_S", 0.01)
    failures = 2
    take_over = assignment.Assignment._take_over

    async def failing(self: assignment.Assignment, *arguments: Any) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise TimeoutError
        await take_over(self, *arguments)

    monkeypatch.setattr(assignment.Assignment, "_take_over", failing)
    events, seen, subscriber = rounds(ledger, 1), Seen(), ledger.subscriber()
    subscriber.on()(seen)
    await ledger.publish(*events)
    async with subscriber:
        await until(lambda: len(seen.events) == len(events), "all events")
    assert failures == 0


async def test_kafka_goes_away_and_comes_back_and_a_stop_without_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriber_module, "STOP_LIMIT_S", 1.0)
    monkeypatch.setattr(consumption, "COMMIT_LIMIT_S", 1.0)
    with server_home() as home:
        port, controller_port = choose_free(2)
        kafka = LocalKafka(home / "kafka", default_cache(), port, controller_port)
        try:
            await kafka.start(say)
        except StackError as error:
            pytest.skip(f"no Kafka of its own can be started here: {error}")
        try:
            async with bench(kafka.address, PARTITIONS) as ledger:
                events, seen, subscriber = rounds(ledger, 1), Seen(), ledger.subscriber()
                subscriber.on()(seen)
                await ledger.publish(*events)
                await subscriber.start()
                await until(lambda: len(seen.events) == len(events), "the events before")
                await kafka.stop(say)
                await kafka.start(say)
                events += (more := rounds(ledger, 1))
                await ledger.publish(*more)
                await until(lambda: len(seen.events) >= len(events), "the events after")
                assert {event.position for event in seen.events} == {event.position for event in events}
                await ledger.producer.stop()
                await kafka.stop(say)
                async with asyncio.timeout(10):
                    await subscriber.stop()
        finally:
            await kafka.stop(say)
