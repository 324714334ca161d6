"""The projection worker on in-memory twins: what it does with every kind of arrival, and when things go away."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ledger.broker.protocol import Record
from ledger.event_store.protocol import StoreUnavailableError
from ledger.messages.event_codec import encode_event
from ledger.testing.event_store import Step
from projections.feed import FeedKey
from projections.store import Advance
from projections.testing import InMemoryProjectionStore
from projections.worker import ProjectionWorker
from tests.projections_in_memory import GROUP, READ_MODELS, TOPIC, ProjectedLedger, forged, until


@pytest.fixture
def ledger() -> ProjectedLedger:
    return ProjectedLedger()


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker looks up from waiting more often than it would."""
    monkeypatch.setattr("projections.worker.POLL_TIMEOUT_S", 0.05)
    monkeypatch.setattr("projections.worker.ASSIGNMENT_WAIT_S", 0.05)
    monkeypatch.setattr("projections.worker.HOLD_CHECK_INTERVAL_S", 0.1)


def failing_once(what: str) -> Step:
    failures = [what]

    async def step(name: str) -> None:
        if failures and name == failures[0]:
            failures.clear()
            raise StoreUnavailableError("the connection broke")

    return step


async def test_events_are_taken_in_order_on_every_partition(ledger: ProjectedLedger) -> None:
    async with ledger.projecting():
        for partition in range(3):
            await ledger.write_and_publish(partition, 30)
        for partition in range(3):
            await ledger.until_projected(partition, 30)
    for partition in range(3):
        ledger.assert_exact(partition)


async def test_events_that_come_again_are_dropped(ledger: ProjectedLedger) -> None:
    events = await ledger.write_and_publish(0, 5)
    ledger.publish(*events)  # in the same batch
    async with ledger.projecting():
        await ledger.until_projected(0, 5)
        ledger.publish(*events[2:])  # in a later batch
        later = await ledger.write(0, 2)
        ledger.publish(*later, *events, *later)
        await ledger.until_projected(0, 7)
        last = (await ledger.write_and_publish(0))[-1]
        await ledger.until_projected(0, last.sequence)
        assert ledger.feed(0).halted_because is None
    ledger.assert_exact(0)


async def test_a_gap_is_filled_from_the_record(ledger: ProjectedLedger) -> None:
    events = await ledger.write(0, 10)
    ledger.publish(*events[:2], *events[5:6], *events[9:])
    async with ledger.projecting():
        await ledger.until_projected(0, 10)
    ledger.assert_exact(0)


async def test_events_that_kafka_lost_are_taken_from_the_record_without_waiting_for_the_next(
    ledger: ProjectedLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even one that had read as far as the topic now reaches again, and so sees no gap."""
    monkeypatch.setattr("projections.worker.BEHIND_CHECK_INTERVAL_S", 0.1)
    async with ledger.projecting():
        await ledger.write_and_publish(0, 2)
        await ledger.until_projected(0, 2)
        await ledger.write(0, 3)
        await ledger.until_projected(0, 5)
        await ledger.write_and_publish(0, 1)
        await ledger.until_projected(0, 6)
    ledger.assert_exact(0)


async def test_a_gap_longer_than_a_page_is_filled(ledger: ProjectedLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.projector.FILL_PAGE_EVENTS", 3)
    events = await ledger.write(0, 20)
    ledger.publish(events[-1])
    async with ledger.projecting():
        await ledger.until_projected(0, 20)
    ledger.assert_exact(0)


async def test_an_event_ahead_of_the_record_halts(ledger: ProjectedLedger) -> None:
    events = await ledger.write_and_publish(0, 3)
    ledger.publish(forged(events[-1], sequence=9))
    async with ledger.projecting():
        because = await ledger.until_halted(0)
    assert "carries 0:9, but the record ends at 3" in because
    assert "ledger rebuild balances --after-restore" in because
    ledger.assert_exact(0)


async def test_another_hash_halts_that_partition_and_the_others_go_on(ledger: ProjectedLedger) -> None:
    events = await ledger.write_and_publish(0, 4)
    next_one = (await ledger.write(0))[0]
    async with ledger.projecting():
        await ledger.until_projected(0, 4)
        ledger.publish(forged(next_one, prev_hash="e" * 64))
        because = await ledger.until_halted(0)
        await ledger.write_and_publish(1, 3)
        await ledger.until_projected(1, 3)
        ledger.publish(next_one)
    assert "event 0:5 in ledger.events is not the one expected" in because
    assert "restored from an older copy" in because
    assert [event.sequence for event in ledger.feed(0).taken] == [1, 2, 3, 4]
    assert ledger.feed(0).next_offset == 4  # of the event that was not taken
    assert events[-1].hash == ledger.feed(0).hash


@pytest.mark.parametrize("remembered", [True, False])
async def test_a_seen_event_with_another_hash_halts(ledger: ProjectedLedger, remembered: bool) -> None:
    events = await ledger.write_and_publish(0, 4)
    async with ledger.projecting():
        await ledger.until_projected(0, 4)
        if remembered:
            ledger.publish(forged(events[1]))
            because = await ledger.until_halted(0)
    if not remembered:  # by a worker that did not see the first one: compared with the record
        async with ledger.projecting("two"):
            ledger.publish(forged(events[1]))
            because = await ledger.until_halted(0)
    assert "event 0:2" in because


async def test_what_came_before_a_wrong_event_in_one_batch_is_taken(ledger: ProjectedLedger) -> None:
    events = await ledger.write(0, 6)
    ledger.publish(*events[:3], forged(events[1]), *events[3:])
    async with ledger.projecting():
        await ledger.until_halted(0)
        await ledger.until_halted(0, "statements")
    assert ledger.feed(0).sequence == 3
    assert ledger.feed(0).next_offset == 3
    ledger.assert_exact(0)


async def test_a_message_that_is_no_event_halts_that_partition(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 2)
    ledger.broker.append(TOPIC, 0, b"key", b"not an event")
    async with ledger.projecting():
        because = await ledger.until_halted(0)
        await ledger.write_and_publish(1, 3)
        await ledger.until_projected(1, 3)
    assert "ledger.events-0 offset 2 is no event" in because
    assert ledger.feed(0).sequence == 2


async def test_an_event_of_another_partition_halts(ledger: ProjectedLedger) -> None:
    event = (await ledger.write(1))[0]
    ledger.broker.append(TOPIC, 0, b"key", encode_event(event))
    async with ledger.projecting():
        assert "carries 1:1" in await ledger.until_halted(0)


async def test_a_read_model_that_refuses_its_rows_halts_alone(ledger: ProjectedLedger) -> None:
    def refuses(advance: Advance) -> str | None:
        bad = advance.key.read_model == "statements" and advance.key.partition == 1
        return "the row is there already" if bad and advance.events else None

    ledger.projections.refuses = refuses
    for partition in range(3):
        await ledger.write_and_publish(partition, 4)
    async with ledger.projecting() as worker:
        because = await ledger.until_halted(1, "statements")
        await until(lambda: all(ledger.feed(partition).sequence == 4 for partition in range(3)))
        await until(lambda: ledger.feed(0, "statements").sequence == 4)
        assert [key.read_model for key in worker.status().halted] == ["statements"]
    assert "the row is there already" in because
    assert ledger.feed(1, "statements").taken == []


async def test_a_checkpoint_ahead_of_a_restored_record_halts_at_the_claim(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 2)
    older = ledger.record.backup()
    await ledger.write_and_publish(0, 2)
    async with ledger.projecting():
        await ledger.until_projected(0, 4)
    ledger.record.heads[0], ledger.record.events[0] = older.heads[0], older.events[0]
    async with ledger.projecting():
        assert "the record has nothing, because it ends at 2" in await ledger.until_halted(0)


async def test_events_that_a_restored_record_lacks_are_not_taken(ledger: ProjectedLedger) -> None:
    """The checkpoints were restored with the record, so at the claim all looks well; the topic tells more."""
    await ledger.write_and_publish(0, 2)
    async with ledger.projecting():
        await ledger.until_projected(0, 2)
    older = ledger.record.backup()
    await ledger.write_and_publish(0, 2)
    ledger.record.heads[0], ledger.record.events[0] = older.heads[0], older.events[0]
    async with ledger.projecting():
        for name in READ_MODELS:
            assert "carries 0:4, but the record ends at 0:2" in await ledger.until_halted(0, name)
        await ledger.write_and_publish(1, 1)
        await ledger.until_projected(1, 1)
    ledger.assert_exact(0)


async def test_events_that_a_restored_record_holds_otherwise_are_not_taken(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 2)
    older = ledger.record.backup()
    await ledger.write_and_publish(0, 2)
    ledger.record.heads[0], ledger.record.events[0] = older.heads[0], older.events[0]
    del ledger.hand.places[0]
    await ledger.write(0, 2)
    async with ledger.projecting():
        assert "the record holds another event at 0:4" in await ledger.until_halted(0)


async def test_a_checkpoint_that_the_record_contradicts_halts_at_the_claim(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 2)
    async with ledger.projecting():
        await ledger.until_projected(0, 2)
    ledger.feed(0).hash = "a" * 64
    async with ledger.projecting():
        because = await ledger.until_halted(0)
    assert f"hash {'a' * 64}; the record has {ledger.record.heads[0].hash.hex()}" in because


async def test_a_rebuild_after_a_restore_leaves_the_lost_history_in_the_topic_behind(ledger: ProjectedLedger) -> None:
    events = await ledger.write_and_publish(0, 4)
    ledger.publish(forged(events[1]))
    async with ledger.projecting():
        for name in READ_MODELS:
            await ledger.until_halted(0, name)
            ledger.projections.rebuild(name)
        # The forged event is read again by the new version, and is still another one.
        for name in READ_MODELS:
            await ledger.until_halted(0, name)
        for name in READ_MODELS:
            ledger.projections.rebuild(name, after_restore=True)
        await ledger.write_and_publish(0, 2)
        await ledger.until_projected(0, 6)
    ledger.assert_exact(0)


async def test_a_rebuild_under_a_running_worker_is_picked_up(ledger: ProjectedLedger) -> None:
    async with ledger.projecting():
        await ledger.write_and_publish(0, 4)
        await ledger.until_projected(0, 4)
        for name in READ_MODELS:
            ledger.projections.rebuild(name)
        await ledger.write_and_publish(0, 4)
        await ledger.until_projected(0, 8)
        await until(lambda: ledger.feed(2).holder == "one")  # also where nothing arrives
    assert ledger.projections.versions == {"balances": 2, "statements": 2}
    ledger.assert_exact(0)


async def test_an_offset_that_is_gone_is_replaced_by_the_record(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 4)
    async with ledger.projecting():
        await ledger.until_projected(0, 4)
    await ledger.write_and_publish(0, 6)
    ledger.broker.remove_before(TOPIC, 0, 8)
    async with ledger.projecting():
        await ledger.until_projected(0, 10)
        await ledger.write_and_publish(0, 1)
        await ledger.until_projected(0, 11)
    ledger.assert_exact(0)


async def test_a_topic_that_was_made_anew_is_followed_from_the_record(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 4)
    async with ledger.projecting():
        await ledger.until_projected(0, 4)
    ledger.broker.delete_topic(TOPIC)
    ledger.broker.create_topic(TOPIC, 3)
    await ledger.write(0, 3)
    async with ledger.projecting():
        await ledger.until_projected(0, 7)
        await ledger.write_and_publish(0, 1)
        await ledger.until_projected(0, 8)
    ledger.assert_exact(0)


@pytest.mark.parametrize(
    "what", ["advance", "advance done", "claim", "claim done", "active_versions", "record_marks", "read_events"]
)
async def test_postgres_going_away_at_any_moment_loses_and_doubles_nothing(ledger: ProjectedLedger, what: str) -> None:
    events = await ledger.write(0, 6)
    ledger.publish(*events[:1], *events[4:])
    async with ledger.projecting(step=failing_once(what)) as worker:
        await ledger.until_projected(0, 6)
        await until(lambda: worker.status().away is None)
    ledger.assert_exact(0)


async def test_while_postgres_is_away_the_worker_says_so_and_goes_on_later(ledger: ProjectedLedger) -> None:
    away = [False]

    async def step(what: str) -> None:
        if away[0]:
            raise StoreUnavailableError("nobody listens")

    await ledger.write_and_publish(0, 3)
    async with ledger.projecting(step=step) as worker:
        await ledger.until_projected(0, 3)
        away[0] = True
        await ledger.write_and_publish(0, 3)
        await until(lambda: worker.status().away is not None)
        assert worker.status().away == "nobody listens"
        away[0] = False
        await ledger.until_projected(0, 6)
    ledger.assert_exact(0)


async def test_while_kafka_is_away_the_worker_says_so_and_goes_on_later(ledger: ProjectedLedger) -> None:
    await ledger.write_and_publish(0, 3)
    async with ledger.projecting() as worker:
        await ledger.until_projected(0, 3)
        ledger.broker.available = False
        await until(lambda: worker.status().away is not None)
        ledger.broker.available = True
        await ledger.write_and_publish(0, 3)
        await ledger.until_projected(0, 6)
    ledger.assert_exact(0)


async def test_two_workers_share_the_partitions_and_take_over(ledger: ProjectedLedger) -> None:
    async with ledger.projecting("one") as one:
        await until(lambda: one.status().partitions == {0, 1, 2})
        async with ledger.projecting("two") as two:
            await until(lambda: len(one.status().partitions) == 2 and len(two.status().partitions) == 1)
            for partition in range(3):
                await ledger.write_and_publish(partition, 5)
                await ledger.until_projected(partition, 5)
            assert {ledger.feed(partition).holder for partition in range(3)} == {"one", "two"}
        await until(lambda: one.status().partitions == {0, 1, 2})
        for partition in range(3):
            await ledger.write_and_publish(partition, 5)
            await ledger.until_projected(partition, 10)
    for partition in range(3):
        ledger.assert_exact(partition)
    assert ledger.feed(0).holder is None


async def test_a_frozen_worker_that_thaws_is_fenced_and_joins_again(ledger: ProjectedLedger) -> None:
    frozen, thawed = asyncio.Event(), asyncio.Event()

    async def freeze_in_mid_batch(what: str) -> None:
        if what == "advance" and not frozen.is_set():
            frozen.set()
            await thawed.wait()

    first = ledger.worker("frozen", freeze_in_mid_batch)
    task = asyncio.create_task(first.run())
    await ledger.write_and_publish(0, 5)
    await asyncio.wait_for(frozen.wait(), 10)
    first._membership.lose_session()  # type: ignore[attr-defined]
    async with ledger.projecting("other"):
        await ledger.until_projected(0, 5)
        thawed.set()
        await until(lambda: {ledger.feed(partition).holder for partition in range(3)} == {"frozen", "other"})
        for partition in range(3):
            sequence = ledger.record.heads[partition].sequence
            await ledger.write_and_publish(partition, 5)
            await ledger.until_projected(partition, sequence + 5)
        first.stop()
        await asyncio.wait_for(task, 10)
    for partition in range(3):
        ledger.assert_exact(partition)


async def test_a_late_claim_while_nothing_happens_is_noticed(ledger: ProjectedLedger) -> None:
    async with ledger.projecting("one") as one:
        await until(lambda: one.status().partitions == {0, 1, 2})
        ghost = InMemoryProjectionStore(ledger.projections)
        await ghost.claim({FeedKey(name, 1, 1): None for name in READ_MODELS}, "ghost")
        assert ledger.feed(1).holder == "ghost"
        await until(lambda: ledger.feed(1).holder == "one")
        await ledger.write_and_publish(1, 2)
        await ledger.until_projected(1, 2)
    ledger.assert_exact(1)


async def rebalance(ledger: ProjectedLedger, worker: ProjectionWorker) -> int:
    """A member comes and goes: the worker is assigned the same partitions anew. Returns the generation."""
    before = worker._membership.generation
    passing = ledger.broker.membership(GROUP, TOPIC)
    await passing.start()
    await passing.stop()
    await until(lambda: worker._membership.generation > before and worker._membership.wanted == frozenset({0, 1, 2}))
    return worker._membership.generation


async def test_records_that_were_polled_for_an_older_assignment_are_read_again(ledger: ProjectedLedger) -> None:
    """Nothing comes after them that would show the gap."""
    worker = ledger.worker()
    poll = worker._reader.poll
    polled: list[int] = []

    async def poll_before_a_rebalance(*arguments: Any) -> Sequence[Record]:
        records = await poll(*arguments)
        if records and not polled:
            polled.append(len(records))
            await rebalance(ledger, worker)
        return records

    worker._reader.poll = poll_before_a_rebalance  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(worker.run())
    await until(lambda: worker.status().partitions == {0, 1, 2})
    await ledger.write_and_publish(0, 3)
    await ledger.until_projected(0, 3)
    assert polled
    worker.stop()
    await asyncio.wait_for(task, 10)
    ledger.assert_exact(0)


async def test_a_new_assignment_is_a_right_to_claim_whoever_has_claimed_meanwhile(ledger: ProjectedLedger) -> None:
    """Without it the worker would take itself for a stale one, and leave the group once more."""
    away = [False]

    async def step(what: str) -> None:
        if away[0]:
            raise StoreUnavailableError("nobody listens")

    async with ledger.projecting("one", step=step) as one:
        await until(lambda: one.status().partitions == {0, 1, 2})
        away[0] = True
        await until(lambda: one.status().away is not None)
        ghost = InMemoryProjectionStore(ledger.projections)
        await ghost.claim({FeedKey(name, 1, 1): None for name in READ_MODELS}, "ghost")
        generation = await rebalance(ledger, one)
        away[0] = False
        await until(lambda: ledger.feed(1).holder == "one")
        assert one._membership.generation == generation
