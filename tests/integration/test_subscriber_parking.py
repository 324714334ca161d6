"""Parking on real Kafka: an owner waits, the others go on, and a release keeps the order."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from consumers.subscriber import (
    LedgerSubscriber,
    NotParkedError,
    ParkedOwnerReport,
    RecordedEvent,
    discard_parked,
    list_parked,
    retry_parked,
)
from consumers.subscriber.parking import Handled, Parked, encode_parking_record
from tests.subscriber_topics import APP, Bench, Seen, bench, until

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka_bootstrap: str) -> AsyncIterator[Bench]:
    async with bench(kafka_bootstrap, partitions=1) as made:
        yield made


def listening(ledger: Bench, seen: Seen, **options: object) -> LedgerSubscriber:
    subscriber = ledger.subscriber(**options)
    subscriber.on()(seen)
    return subscriber


async def parked(ledger: Bench) -> list[ParkedOwnerReport]:
    return await list_parked(ledger.bootstrap, APP, ledger.topics)


async def until_nobody_is_parked(ledger: Bench) -> None:
    async with asyncio.timeout(30):
        while await parked(ledger):  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.05)


def alternating(ledger: Bench, count: int) -> list[RecordedEvent]:
    """Odd sequences are Ada's, even ones Bob's."""
    return [ledger.chain.posted("bob" if index % 2 else "ada", "CREDIT_ADD", 1) for index in range(count)]


async def test_a_failing_owner_waits_with_all_later_events_and_the_others_go_on(ledger: Bench) -> None:
    events, seen = alternating(ledger, 10), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events)
    async with listening(ledger, seen) as subscriber:
        await until(lambda: len(seen.of("bob")) == 5, "Bob's events")
        assert not subscriber.halts
        assert [health.parked_owners for health in subscriber.health] == [1]
    assert seen.of("ada") == []
    assert seen.attempts == 3 + 5, "only the first event is attempted"
    (report,) = await parked(ledger)
    assert (report.owner_id, report.group, report.partition) == ("ada", f"{ledger.topics.prefix}.content", 0)
    assert [event.sequence for event in report.events] == [1, 3, 5, 7, 9]
    assert report.events[0] == events[0]
    assert "no luck with ada" in (report.error or "")
    assert report.attempts == 3
    assert not report.releasing


async def test_a_released_owners_events_are_handled_in_order_before_later_ones(ledger: Bench) -> None:
    events, seen = alternating(ledger, 10), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 5, "Bob's events")
        seen.failing = set()
        await retry_parked(ledger.bootstrap, APP, ledger.topics, "ada")
        await ledger.publish(*alternating(ledger, 10))
        await until(lambda: len(seen.events) == 20, "all events")
    assert seen.of("ada") == list(range(1, 20, 2))
    assert await parked(ledger) == []


async def test_a_release_asked_for_while_nobody_runs_comes_first_at_the_next_start(ledger: Bench) -> None:
    events, seen = alternating(ledger, 10), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events[:6])
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 3, "Bob's events")
    seen.failing = set()
    released = await retry_parked(ledger.bootstrap, APP, ledger.topics, "ada")
    assert [len(report.events) for report in released] == [3]
    assert (await parked(ledger))[0].releasing
    await ledger.publish(*events[6:])
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 10, "all events")
    assert seen.of("ada") == [1, 3, 5, 7, 9]
    assert [event.sequence for event in seen.events[3:6]] == [1, 3, 5]
    assert await parked(ledger) == []


async def test_a_restarted_subscriber_knows_the_parked_owners_before_the_first_event(ledger: Bench) -> None:
    events, seen = alternating(ledger, 10), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events[:4])
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 2, "Bob's events")
    await ledger.publish(*events[4:])
    seen.failing = set()
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 5, "Bob's events")
    assert seen.of("ada") == []
    assert [event.sequence for event in (await parked(ledger))[0].events] == [1, 3, 5, 7, 9]


async def test_discarding_drops_the_first_event_only_and_the_others_follow_in_order(ledger: Bench) -> None:
    events, seen = alternating(ledger, 8), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 4, "Bob's events")
        seen.failing = set()
        await discard_parked(ledger.bootstrap, APP, ledger.topics, "ada")
        await until(lambda: len(seen.of("ada")) == 3, "Ada's other events")
    assert seen.of("ada") == [3, 5, 7]
    assert await parked(ledger) == []


async def test_discarding_every_event_frees_the_owner(ledger: Bench) -> None:
    events, seen = alternating(ledger, 8), Seen()
    seen.failing = {"ada"}
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.of("bob")) == 4, "Bob's events")
        seen.failing = set()
        await discard_parked(ledger.bootstrap, APP, ledger.topics, "ada", every_event=True)
        await until_nobody_is_parked(ledger)
        await asyncio.sleep(0)
        await ledger.publish(*alternating(ledger, 2))
        await until(lambda: len(seen.of("bob")) == 5, "what comes later")
    assert seen.of("ada") in ([9], []), (
        "the marker may be read after the later event, which is then parked and released"
    )
    async with listening(ledger, seen):
        await until(lambda: seen.of("ada") == [9], "Ada's later event")


async def test_an_owner_that_fails_again_stays_parked_from_there_on(ledger: Bench) -> None:
    events, subscriber, handled = alternating(ledger, 8), ledger.subscriber(), []
    failing = {1, 5}

    @subscriber.on()
    async def handle(event: RecordedEvent) -> None:
        if event.sequence in failing:
            raise RuntimeError(f"no luck with {event.position}")
        handled.append(event.sequence)

    await ledger.publish(*events)
    async with subscriber:
        await until(lambda: handled == [2, 4, 6, 8], "Bob's events")
        failing.discard(1)
        await retry_parked(ledger.bootstrap, APP, ledger.topics, "ada")
        async with asyncio.timeout(30):
            while (await parked(ledger))[0].error != "RuntimeError('no luck with 0:5')":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    assert handled == [2, 4, 6, 8, 1, 3]
    (report,) = await parked(ledger)
    assert [event.sequence for event in report.events] == [5, 7]
    assert not report.releasing


async def test_two_groups_of_an_app_park_apart(ledger: Bench) -> None:
    events, failing, lucky = alternating(ledger, 4), Seen(), Seen()
    failing.failing = {"ada"}
    await ledger.publish(*events)
    async with listening(ledger, failing, group="one"), listening(ledger, lucky, group="two"):
        await until(lambda: len(failing.of("bob")) == 2 and len(lucky.events) == 4, "both groups")
    assert [report.group for report in await parked(ledger)] == ["one"]
    with pytest.raises(NotParkedError, match="not parked in group 'two'"):
        await retry_parked(ledger.bootstrap, APP, ledger.topics, "ada", group="two")


async def test_releasing_an_owner_who_is_not_parked_is_refused(ledger: Bench) -> None:
    with pytest.raises(NotParkedError, match="'ada' is not parked in any group"):
        await retry_parked(ledger.bootstrap, APP, ledger.topics, "ada")


async def test_something_else_on_the_parked_topic_halts_and_a_newer_kind_does_not(ledger: Bench) -> None:
    seen = Seen()
    await ledger.publish(*alternating(ledger, 2))
    topic = ledger.topics.parked(APP)
    await ledger.publish_raw(0, b'{"kind": "frozen", "group": "g"}', topic=topic)
    async with listening(ledger, seen) as subscriber:
        await until(lambda: len(seen.events) == 2, "events behind a newer kind")
        await ledger.publish_raw(0, b"hello", topic=topic)
        halt = await subscriber.wait_halted()
    assert "only this app and `ledger parked` may write there" in str(halt)


async def test_an_event_that_was_parked_and_released_before_its_offset_was_committed_is_not_handled_again(
    ledger: Bench,
) -> None:
    """A subscriber died between parking and committing; its successor has released the event first of all."""
    events, seen = alternating(ledger, 4), Seen()
    group, at = f"{ledger.topics.prefix}.content", events[0].occurred_at
    for record in (Parked(group, "ada", at, events[0], "boom", 3), Handled(group, "ada", at, events[0].sequence)):
        await ledger.publish_raw(0, encode_parking_record(record), topic=ledger.topics.parked(APP))
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) >= 3, "the others")
    assert sorted(event.sequence for event in seen.events) == [2, 3, 4]


async def test_an_event_parked_by_a_member_that_has_lost_the_partition_is_settled_by_its_holder(ledger: Bench) -> None:
    """It was frozen in the handler, thawed after another had handled the event, and parks it."""
    events, seen = alternating(ledger, 4), Seen()
    await ledger.publish(*events)
    group = f"{ledger.topics.prefix}.content"
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 4, "all")
        stale = Parked(group, "ada", events[0].occurred_at, events[0], "late", 3)
        await ledger.publish_raw(0, encode_parking_record(stale), topic=ledger.topics.parked(APP))
        await ledger.publish(*alternating(ledger, 2))
        await until_nobody_is_parked(ledger)
        await until(lambda: len(seen.events) == 6, "later events")
    assert seen.of("ada") == [1, 3, 5]
