"""Handlers without Kafka: attempts, limits, parking and order, by the code that runs on Kafka too."""

import asyncio

import pytest
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from faststream import AckPolicy
from hypothesis import given
from hypothesis import strategies as st

from consumers.subscriber import (
    EventChain,
    GapError,
    InMemoryEvents,
    LedgerSubscriber,
    Outcome,
    RecordedEvent,
    RetryPolicy,
    SubscriberHaltedError,
)
from consumers.subscriber.consumption import ABANDON_LIMIT_S, COMMIT_LIMIT_S
from consumers.subscriber.delivery import Delivery
from consumers.subscriber.errors import HandlingFailedError, InterruptedDeliveryError, ParkingUnavailableError
from consumers.subscriber.handlers import Handler, Handlers, Route
from consumers.subscriber.lane import PARKED_IN_A_ROW_MAX, Lane
from consumers.subscriber.parking import ParkedPartition, ParkingRecord
from consumers.subscriber.sequence_guard import BEGINNING, SequenceGuard
from consumers.subscriber.subscriber import BATCH_BUDGET_S, REVOKE_LIMIT_S
from tests.subscriber_topics import Seen


def subscriber(**options: object) -> LedgerSubscriber:
    chosen: dict[str, object] = {"on_failure": "park", "start": "beginning", **options}
    return LedgerSubscriber(app="example-app", group="g", kafka_bootstrap_servers="nowhere:1", **chosen)  # type: ignore[arg-type]


def listening(handler: Handler, **options: object) -> InMemoryEvents:
    made = subscriber(**options)
    made.on()(handler)
    return made.in_memory()


def route(handler: Handler) -> Route:
    return Route(handler, None, None, None, None)


EVENT = EventChain(1).posted("ada", "CREDIT_ADD", 1)


async def test_events_are_given_to_the_handlers_that_want_them_in_the_order_of_declaration() -> None:
    made, calls = subscriber(), []

    @made.on("entry_posted", operation="CONTENT_CREATION")
    async def first(event: RecordedEvent) -> None:
        calls.append(("first", event.nonce))

    @made.on("command_rejected")
    async def refused(event: RecordedEvent) -> None:
        calls.append(("refused", event.nonce))

    @made.on(credit_type="credits")
    async def every(event: RecordedEvent) -> None:
        calls.append(("every", event.nonce))

    events = made.in_memory()
    outcomes = await events.give(
        events.chain.posted("ada", "CONTENT_CREATION", -5, nonce="a"),
        events.chain.rejected("ada", "CONTENT_CREATION", "INSUFFICIENT_CREDITS", nonce="b"),
        events.chain.posted("ada", "CREDIT_ADD", 5, nonce="c", credit_type="gold"),
    )
    assert calls == [("first", "a"), ("every", "a"), ("refused", "b"), ("every", "b")]
    assert outcomes == (Outcome.HANDLED, Outcome.HANDLED, Outcome.PASSED)


async def test_events_given_again_are_dropped_and_a_gap_is_refused() -> None:
    seen = Seen()
    events = listening(seen)
    made = [events.chain.posted("ada", "CREDIT_ADD", 1) for _ in range(4)]
    assert await events.give(made[0], made[1], made[0]) == (Outcome.HANDLED, Outcome.HANDLED, Outcome.SEEN)
    with pytest.raises(GapError):
        await events.give(made[3])
    assert seen.of("ada") == [1, 2]


async def test_a_parked_owner_waits_and_is_released_in_order() -> None:
    seen = Seen()
    seen.failing = {"ada"}
    events = listening(seen)
    chain = events.chain
    made = [chain.posted(owner, "CREDIT_ADD", 1) for owner in ("ada", "bob", "ada", "bob")]
    outcomes = await events.give(*made)
    assert outcomes == (Outcome.PARKED, Outcome.HANDLED, Outcome.PARKED, Outcome.HANDLED)
    assert list(events.parked_owners) == ["ada"]
    await events.retry("ada")
    assert list(events.parked_owners) == ["ada"], "it fails again"
    seen.failing = set()
    await events.discard("ada")
    assert seen.of("ada") == [3]
    assert not events.parked_owners


async def test_a_parked_owners_later_events_wait_though_their_handlers_would_succeed() -> None:
    handled: list[int] = []
    failing = {1}

    async def handle(event: RecordedEvent) -> None:
        if event.sequence in failing:
            raise RuntimeError("no luck")
        handled.append(event.sequence)

    events = listening(handle)
    made = [events.chain.posted("ada", "CREDIT_ADD", 1) for _ in range(3)]
    assert await events.give(*made) == (Outcome.PARKED,) * 3
    assert handled == []
    failing.clear()
    await events.retry("ada")
    assert handled == [1, 2, 3]


async def test_a_failing_handler_halts_if_the_app_chose_so() -> None:
    seen = Seen()
    seen.failing = {"ada"}
    events = listening(seen, on_failure="halt")
    event = events.chain.posted("ada", "CREDIT_ADD", 1)
    for _ in range(2):
        with pytest.raises(SubscriberHaltedError, match="event 0:1 of owner 'ada'"):
            await events.give(event)


async def test_when_every_event_fails_the_partition_is_halted_before_every_owner_is_parked() -> None:
    seen = Seen()
    events = listening(seen)
    owners = [f"owner-{number}" for number in range(PARKED_IN_A_ROW_MAX + 1)]
    seen.failing = set(owners)
    made = [events.chain.posted(owner, "CREDIT_ADD", 1) for owner in owners]
    await events.give(*made[:-1])
    with pytest.raises(SubscriberHaltedError, match="The 20 events before it that a handler tried failed too"):
        await events.give(made[-1])
    assert len(events.parked_owners) == PARKED_IN_A_ROW_MAX


@given(
    owners=st.lists(st.sampled_from("abc"), min_size=1, max_size=30),
    fails=st.sets(st.integers(1, 30)),
    releases=st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abc"), st.booleans()), max_size=8),
)
def test_whatever_fails_and_is_released_each_owner_is_handled_in_order_and_nothing_is_lost(
    owners: list[str], fails: set[int], releases: list[tuple[int, str, bool]]
) -> None:
    """Each event is handled once, or discarded, or still parked; and each owner's are handled in order."""
    handled: list[tuple[str, int]] = []
    failing = set(fails)

    async def handle(event: RecordedEvent) -> None:
        if event.sequence in failing:
            raise RuntimeError("no luck")
        handled.append((event.owner_id, event.sequence))

    async def scenario() -> InMemoryEvents:
        events = listening(handle)
        for index, owner in enumerate(owners):
            await events.give(events.chain.posted(owner, "CREDIT_ADD", 1))
            for at, released, mend in releases:
                if at == index and released in events.parked_owners:
                    if mend:
                        failing.discard(events.parked_owners[released].first.event.sequence)
                        await events.retry(released)
                    else:
                        discarded.add(events.parked_owners[released].first.event.sequence)
                        await events.discard(released)
        return events

    discarded: set[int] = set()
    events = asyncio.run(scenario())
    waiting = {sequence for owner in events.parked_owners.values() for sequence in owner.events}
    sequences = [sequence for _, sequence in handled]
    assert sorted([*sequences, *waiting, *discarded]) == list(range(1, len(owners) + 1))
    for owner in "abc":
        of_owner = [sequence for name, sequence in handled if name == owner]
        assert of_owner == sorted(of_owner)
    # A restart folds the same log and knows the same.
    fold = ParkedPartition("g")
    for record in events.parking_log.records:
        fold.apply(record)
    assert {owner.owner_id: set(owner.events) for owner in fold.owners} == {
        name: set(owner.events) for name, owner in events.parked_owners.items()
    }


async def test_a_handler_is_tried_as_often_as_the_policy_says_and_a_handler_that_succeeded_only_once() -> None:
    first, second = Seen(), Seen()
    second.failing = {"ada"}
    with pytest.raises(HandlingFailedError, match="failed 4 times"):
        await Delivery(RetryPolicy(attempts=4, first_backoff_s=0)).deliver([route(first), route(second)], EVENT)
    assert (first.attempts, second.attempts) == (1, 4)


async def test_an_attempt_that_takes_too_long_is_cancelled_and_counts_as_failed() -> None:
    cancelled = []

    async def stuck(event: RecordedEvent) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.position)
            raise

    policy = RetryPolicy(attempts=2, attempt_limit_s=0.01, first_backoff_s=0)
    async with asyncio.timeout(10):
        with pytest.raises(HandlingFailedError, match="TimeoutError"):
            await Delivery(policy).deliver([route(stuck)], EVENT)
    assert len(cancelled) == 2


async def test_losing_the_partition_ends_the_back_off_at_once() -> None:
    seen = Seen()
    seen.failing = {"ada"}
    delivery = Delivery(RetryPolicy(attempts=3, first_backoff_s=100, backoff_max_s=100))
    delivering = asyncio.ensure_future(delivery.deliver([route(seen)], EVENT))
    while not seen.attempts:  # noqa: ASYNC110  the handler runs in a task of its own
        await asyncio.sleep(0)
    delivery.interrupt()
    with pytest.raises(InterruptedDeliveryError):
        await asyncio.wait_for(delivering, 5)
    assert seen.attempts == 1


async def test_an_abandoned_handler_is_not_tried_again_even_if_work_is_taken_up_meanwhile() -> None:
    began, attempts = asyncio.Event(), []

    async def slow_to_end(event: RecordedEvent) -> None:
        attempts.append(event)
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            delivery.go_on()

    delivery = Delivery(RetryPolicy(first_backoff_s=0))
    delivering = asyncio.ensure_future(delivery.deliver([route(slow_to_end)], EVENT))
    await began.wait()
    delivery.abandon()
    with pytest.raises(InterruptedDeliveryError):
        await asyncio.wait_for(delivering, 5)
    assert len(attempts) == 1


async def test_an_event_whose_parking_kafka_did_not_take_is_new_when_it_comes_again() -> None:
    class Away:
        async def append(self, partition: int, record: ParkingRecord) -> int:
            raise ParkingUnavailableError("away")

    seen, handlers = Seen(), Handlers()
    seen.failing = {"ada"}
    handlers.add(route(seen))
    lane = Lane(
        0,
        group="g",
        guard=SequenceGuard(0, BEGINNING),
        handlers=handlers,
        delivery=Delivery(RetryPolicy(attempts=1)),
        parked=ParkedPartition("g"),
        parking_log=Away(),
        park_failures=True,
        now=lambda: EVENT.occurred_at,
    )
    with pytest.raises(ParkingUnavailableError):
        await lane.take(EVENT)
    seen.failing = set()
    assert await lane.take(EVENT) is Outcome.HANDLED


def test_every_default_of_faststream_that_would_lose_events_is_stated_otherwise() -> None:
    broker = subscriber().broker
    (used,) = broker.subscribers
    assert used.ack_policy is AckPolicy.MANUAL
    stated = used._connection_args  # type: ignore[attr-defined]
    assert stated["enable_auto_commit"] is False
    assert stated["auto_offset_reset"] == "earliest"
    assert stated["partition_assignment_strategy"] == (RangePartitionAssignor,)
    assert stated["isolation_level"] == "read_committed"
    assert stated["rebalance_timeout_ms"] > 1000 * (REVOKE_LIMIT_S + ABANDON_LIMIT_S + COMMIT_LIMIT_S)
    assert stated["max_poll_interval_ms"] > 1000 * (BATCH_BUDGET_S + RetryPolicy().worst_case_s)
    assert broker.config.broker_config.consumer_only
    assert not broker.config.broker_config.allow_auto_create_topics


def test_retries_that_outlast_kafkas_patience_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed are 240 s"):
        subscriber(retries=RetryPolicy(attempts=5, attempt_limit_s=60))


def test_an_app_that_cannot_be_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not the name of an app"):
        LedgerSubscriber(
            app="Example App", group="g", kafka_bootstrap_servers="nowhere:1", on_failure="park", start="now"
        )


def test_a_handler_that_is_not_async_is_refused() -> None:
    def blocking(event: RecordedEvent) -> None: ...

    with pytest.raises(TypeError, match=r"asyncio\.to_thread"):
        subscriber().on()(blocking)  # type: ignore[arg-type]
