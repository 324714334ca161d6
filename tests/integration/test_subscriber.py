"""The subscriber kit on real Kafka: what is handled, dropped, halted, and where a restart goes on."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from consumers.subscriber import EventChain, LedgerSubscriber, RecordedEvent, SubscriberHaltedError, TopicsNotReadyError
from consumers.subscriber import subscriber as subscriber_module
from ledger.messages.event_codec import encode_event
from ledger.messages.topics import Topics
from tests.subscriber_topics import APP, PARTITIONS, Bench, Seen, bench, create_topics, until

pytestmark = pytest.mark.integration

OWNERS = ("ada", "bob", "cy", "dora")


@pytest.fixture
async def ledger(kafka_bootstrap: str) -> AsyncIterator[Bench]:
    async with bench(kafka_bootstrap) as made:
        yield made


def entries(chain: EventChain, count: int) -> list[RecordedEvent]:
    return [chain.posted(OWNERS[index % len(OWNERS)], "CREDIT_ADD", 10) for index in range(count)]


def listening(ledger: Bench, seen: Seen, **options: object) -> LedgerSubscriber:
    subscriber = ledger.subscriber(**options)
    subscriber.on()(seen)
    return subscriber


async def halt_of(subscriber: LedgerSubscriber) -> SubscriberHaltedError:
    async with asyncio.timeout(30):
        return await subscriber.wait_halted()


async def committed(ledger: Bench) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=ledger.bootstrap)
    await admin.start()
    try:
        offsets = await admin.list_consumer_group_offsets(f"{ledger.topics.prefix}.content")
    finally:
        await admin.close()
    return {place.partition: at.offset for place, at in offsets.items() if place.topic == ledger.topics.events}


def at_positions(events: list[RecordedEvent]) -> list[tuple[int, int]]:
    return sorted(event.position for event in events)


async def test_history_is_handled_in_order_and_then_what_happens(ledger: Bench) -> None:
    events, seen = entries(ledger.chain, 40), Seen()
    await ledger.publish(*events[:20])
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 20, "the history")
        await ledger.publish(*events[20:])
        await until(lambda: len(seen.events) == 40, "the new events")
    for owner in OWNERS:
        assert seen.of(owner) == [event.sequence for event in events if event.owner_id == owner]


async def test_a_restart_goes_on_behind_the_last_event_handled(ledger: Bench) -> None:
    events, seen = entries(ledger.chain, 30), Seen()
    await ledger.publish(*events[:10])
    for count in (10, 20, 30):
        async with listening(ledger, seen):
            await until(lambda count=count: len(seen.events) == count, f"{count} events")  # type: ignore[misc]
        await ledger.publish(*events[count : count + 10])
    assert seen.positions == at_positions(events)


async def test_nothing_is_committed_before_it_was_handled(ledger: Bench) -> None:
    subscriber, began, may_end = ledger.subscriber(), asyncio.Event(), asyncio.Event()

    @subscriber.on("entry_posted")
    async def slow(event: RecordedEvent) -> None:
        began.set()
        await may_end.wait()

    event = ledger.chain.posted("ada", "CREDIT_ADD", 10)
    await ledger.publish(event)
    async with subscriber:
        await began.wait()
        assert await committed(ledger) == {}
        may_end.set()
    assert await committed(ledger) == {event.partition: 1}


async def test_only_wanted_events_reach_a_handler_and_unknown_types_pass(ledger: Bench) -> None:
    chain, subscriber, seen = ledger.chain, ledger.subscriber(), Seen()
    subscriber.on("entry_posted", app="example-app", operation="CONTENT_CREATION")(seen)
    wanted = chain.posted("ada", "CONTENT_CREATION", -5)
    passed_over = [
        chain.posted("ada", "CREDIT_ADD", 5),
        chain.posted("ada", "CONTENT_CREATION", -5, app="other-app"),
        chain.rejected("ada", "CONTENT_CREATION", "INSUFFICIENT_CREDITS"),
        msgspec.structs.replace(chain.posted("ada", "HOLD", 0), type="hold_placed"),
    ]
    last = chain.posted("ada", "CONTENT_CREATION", -5)
    await ledger.publish(wanted, *passed_over)
    with_unknown_field = msgspec.json.encode(msgspec.json.decode(encode_event(last)) | {"holds": [1]})
    await ledger.publish_raw(last.partition, with_unknown_field)
    async with subscriber:
        await until(lambda: len(seen.events) == 2, "both")
    assert [event.position for event in seen.events] == [wanted.position, last.position]


async def test_headers_that_cannot_be_read_break_nothing(ledger: Bench) -> None:
    events, seen = entries(ledger.chain, 3), Seen()
    headers: object
    for event, headers in zip(events, ([("h", None)], [("h", b"\xff\xfe")], [("h", b""), ("h", b"x")]), strict=True):
        await ledger.publish_raw(event.partition, encode_event(event), headers=headers)
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 3, "all three")


async def test_events_given_again_are_dropped_also_after_a_restart_in_their_middle(ledger: Bench) -> None:
    chain = EventChain(1)
    events, seen = entries(chain, 20), Seen()
    await ledger.publish(*events[:15], *events[5:10])
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 15, "15 events")
        await until_committed(ledger, {0: 20})
    await ledger.publish(*events[10:15], *events[15:])
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 20, "20 events")
    assert [event.sequence for event in seen.events] == list(range(1, 21))


async def test_a_gap_halts_its_partition_and_the_others_go_on(ledger: Bench) -> None:
    events, seen = entries(ledger.chain, 40), Seen()
    lost = next(event for event in events[10:] if event.partition == 0)
    await ledger.publish(*[event for event in events if event is not lost])
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
        elsewhere = [event for event in events if event.partition != 0]
        await until(lambda: len([e for e in seen.events if e.partition != 0]) == len(elsewhere), "the others")
        assert list(subscriber.halts) == [0]
    assert "1 events are missing" in str(halt)
    assert "write the topic again" in str(halt)
    before = [event for event in events if event.partition == 0 and event.sequence < lost.sequence]
    assert [event.sequence for event in seen.events if event.partition == 0] == [event.sequence for event in before]
    assert (await committed(ledger))[0] == len(before)


async def test_a_known_position_with_another_hash_halts(ledger: Bench) -> None:
    events, seen = entries(EventChain(1), 5), Seen()
    other = msgspec.structs.replace(events[2], hash="ab" * 32)
    await ledger.publish(*events, other)
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
    assert "event 0:3 was seen with the hash" in str(halt)
    assert "restored from an older copy" in str(halt)


async def test_a_ledger_restored_from_an_older_copy_halts_a_restarted_subscriber(ledger: Bench) -> None:
    chain, seen = EventChain(1), Seen()
    events = entries(chain, 5)
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 5, "the first history")
    other_chain = EventChain(1)
    restored = [*entries(other_chain, 4), other_chain.posted("eve", "CREDIT_ADD", 1), *entries(other_chain, 2)]
    await ledger.publish(*restored[4:])
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
    assert "0:5 was seen" in str(halt)
    assert len(seen.events) == 5


@pytest.mark.parametrize("value", [None, b"", b"not json", b'{"type": "entry_posted"}', b"\xff"])
async def test_an_unreadable_record_halts(ledger: Bench, value: bytes | None) -> None:
    event, seen = ledger.chain.posted("ada", "CREDIT_ADD", 10), Seen()
    await ledger.publish(event)
    await ledger.publish_raw(event.partition, value)
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
        assert len(seen.events) == 1
    assert "Only the ledger may write there" in str(halt)


async def test_a_failing_handler_is_tried_again_then_halts_and_a_restart_begins_with_its_event(ledger: Bench) -> None:
    events, seen = entries(EventChain(1), 6), Seen()
    seen.failing = {events[2].owner_id}
    await ledger.publish(*events)
    subscriber = listening(ledger, seen, on_failure="halt")
    with pytest.raises(SubscriberHaltedError, match="Mend the cause and start again"):
        await subscriber.run()
    assert [event.sequence for event in seen.events] == [1, 2]
    assert seen.attempts == 2 + 3
    seen.failing = set()
    async with listening(ledger, seen, on_failure="halt"):
        await until(lambda: len(seen.events) == 6, "all of them")
    assert [event.sequence for event in seen.events] == [1, 2, 3, 4, 5, 6]


async def test_a_new_group_may_begin_now_and_keeps_that_place_over_a_restart(ledger: Bench) -> None:
    chain, seen = EventChain(1), Seen()
    await ledger.publish(*entries(chain, 5))
    async with listening(ledger, seen, start="now") as subscriber:
        await until(lambda: len(subscriber.health) == PARTITIONS, "its partitions")
    later = entries(chain, 3)
    await ledger.publish(*later)
    async with listening(ledger, seen, start="now"):
        await until(lambda: len(seen.events) == 3, "what happened while it was down")
    assert seen.positions == at_positions(later)


@pytest.mark.parametrize("offset", [16, 100], ids=["which holds a later event now", "which does not exist now"])
async def test_a_topic_written_again_under_the_committed_offset_is_recognised(ledger: Bench, offset: int) -> None:
    """Sequence 10 was handled; the log was written again without the repetitions that stood before `offset`."""
    seen = Seen()
    events = entries(EventChain(1), 20)
    await ledger.publish(*events)
    await commit(ledger, offset, f"10:{events[9].hash}")
    async with listening(ledger, seen) as subscriber:
        await until(lambda: len(seen.events) == 10 or subscriber.halts, "the ten new events")
        assert not subscriber.halts
    assert [event.sequence for event in seen.events] == list(range(11, 21))


async def test_a_topic_written_again_with_another_history_halts(ledger: Bench) -> None:
    seen = Seen()
    await ledger.publish(*entries(EventChain(1), 20))
    await commit(ledger, 100, f"10:{'ab' * 32}")
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
    assert "0:10 was seen" in str(halt)
    assert not seen.events


async def test_an_offset_that_does_not_exist_and_says_nothing_halts(ledger: Bench) -> None:
    seen = Seen()
    await ledger.publish(*entries(EventChain(1), 20))
    await commit(ledger, 100, "")
    async with listening(ledger, seen) as subscriber:
        halt = await halt_of(subscriber)
    assert "offset 100 does not exist" in str(halt)
    assert "--reset-offsets" in str(halt)
    assert not seen.events


async def test_offsets_set_by_another_tool_are_followed(ledger: Bench) -> None:
    seen = Seen()
    events = entries(EventChain(1), 10)
    await ledger.publish(*events)
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 10, "all")
    await commit(ledger, 7, "")
    async with listening(ledger, seen):
        await until(lambda: len(seen.events) == 13, "the last three again")
    assert [event.sequence for event in seen.events[10:]] == [8, 9, 10]


async def test_missing_topics_and_topics_of_another_size_are_refused_by_name(ledger: Bench) -> None:
    with pytest.raises(TopicsNotReadyError, match=r"no topic nowhere\.events and no topic nowhere\.parked"):
        await ledger.subscriber(topics=Topics(prefix="nowhere")).start()
    odd = Topics(prefix=f"{ledger.topics.prefix}x")
    await create_topics(ledger.bootstrap, {odd.events: 2, odd.parked(APP): 3})
    with pytest.raises(TopicsNotReadyError, match=r"events has 2 partitions and .*parked\.example-app has 3"):
        await ledger.subscriber(topics=odd).start()


async def test_a_batch_that_takes_long_is_polled_again_and_every_event_is_handled_once(
    ledger: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "BATCH_BUDGET_S", 0.005)
    events, subscriber, handled = entries(ledger.chain, 40), ledger.subscriber(), []

    @subscriber.on()
    async def slow(event: RecordedEvent) -> None:
        await asyncio.sleep(0.002)
        handled.append(event)

    await ledger.publish(*events)
    async with subscriber:
        await until(lambda: len(handled) >= 40, "all of them")
    assert at_positions(handled) == at_positions(events)
    for partition in range(PARTITIONS):
        of_partition = [event.sequence for event in handled if event.partition == partition]
        assert of_partition == sorted(of_partition)


async def test_it_runs_as_a_faststream_application(ledger: Bench) -> None:
    events, seen = entries(ledger.chain, 4), Seen()
    await ledger.publish(*events)
    app = listening(ledger, seen).faststream_app()
    await app.start()
    try:
        await until(lambda: len(seen.events) == 4, "all of them")
    finally:
        await app.stop()
    assert sum((await committed(ledger)).values()) == 4


async def until_committed(ledger: Bench, expected: dict[int, int]) -> None:
    async with asyncio.timeout(30):
        while await committed(ledger) != expected:  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.05)


async def commit(ledger: Bench, offset: int, metadata: str) -> None:
    """Commit for the group while it does not run."""
    place = TopicPartition(ledger.topics.events, 0)
    async with AIOKafkaConsumer(
        bootstrap_servers=ledger.bootstrap, group_id=f"{ledger.topics.prefix}.content", enable_auto_commit=False
    ) as consumer:
        consumer.assign([place])
        await consumer.commit({place: (offset, metadata)})
