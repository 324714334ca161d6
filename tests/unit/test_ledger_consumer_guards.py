"""What the ledger consumer refuses to go on with, partition by partition: the real loop on the twins."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from consumers import ledger_consumer, relay
from consumers.appending import BatchAppender
from consumers.batch import DecodedRecord
from consumers.held_partition import HeldPartition
from consumers.recent import Recent
from consumers.record_clock import RecordClock
from ledger.broker.protocol import Record
from ledger.domain.command import Command
from ledger.domain.decider import decide
from ledger.domain.event import NewEvent, RecordedEvent
from ledger.event_store.protocol import (
    TRYING_CLAIMS_MAX,
    AppendBatch,
    Appended,
    AppendResult,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.messages.event_codec import encode_event
from ledger.operations import BaseLedgerOperations, Registry
from ledger.testing.event_store import InMemoryEventStore
from tests.contract.hand import Hand
from tests.ledger_in_memory import APP, EPOCH, LedgerInMemory, ShopOperations, kill
from tests.simulation import virtual_time

Scene = Callable[[LedgerInMemory], Coroutine[Any, Any, None]]


def play(scene: Scene) -> None:
    """Run it in virtual time."""

    async def run() -> None:
        await scene(LedgerInMemory())

    virtual_time.run(run())


# --- one partition halts, the others go on --------------------------------------------------------------------------


def test_a_command_that_cannot_be_decided_halts_its_partition_and_is_not_skipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(command: Command, *rest: Any) -> NewEvent:
        if command.operation == "FLY":
            raise ZeroDivisionError("a defect of the rules")
        return decide(command, *rest)

    monkeypatch.setattr("consumers.batch.decide", failing)

    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            ledger.send(ledger.command(0, "FLY"))
            assert "ZeroDivisionError" in await ledger.until_halted(0)
            ledger.send(ledger.command(0), ledger.command(1))
            await ledger.until_consumed(1, 1)
            await asyncio.sleep(10)
        assert ledger.consumed(0) == 1
        assert ledger.halted() == {0}

    play(scene)


class RefusingStore(InMemoryEventStore):
    """Refuses every batch with an event of one command, as Postgres does with a value that it cannot hold."""

    refused: Command

    async def append(self, batch: AppendBatch) -> AppendResult:
        if any(self.refused.command_id in row for row in batch.events):
            raise RecordMismatchError("no")
        return await super().append(batch)


def test_the_one_command_that_the_record_refuses_halts_its_partition_only() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        store = RefusingStore(ledger.record)
        first, store.refused, third = (ledger.command(0) for _ in range(3))
        ledger.send(first, store.refused, third, ledger.command(1), ledger.command(1))
        async with ledger.running(ledger.consumer(store=store)):
            why = await ledger.until_halted(0)
            await ledger.until_consumed(1, 2)
        assert "the record refuses shop:0:1" in why
        assert ledger.halted() == {0}
        assert ledger.consumed(0) == 1

    play(scene)


class KilledError(BaseException):
    """As good as kill -9: nothing of the consumer runs on."""


def test_a_record_that_kills_is_found_among_others_and_halts_its_partition_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        poison = ledger.command(0)

        def deadly(command: Command, *rest: Any) -> NewEvent:
            if command.command_id == poison.command_id:
                raise KilledError
            return decide(command, *rest)

        monkeypatch.setattr("consumers.batch.decide", deadly)
        ledger.send(ledger.command(0), poison, ledger.command(0))
        deaths = 0
        while not ledger.halted():
            consumer = ledger.consumer(f"attempt {deaths}")
            task = asyncio.create_task(consumer.run())
            await ledger.until(lambda task=task: task.done() or bool(ledger.halted()))  # type: ignore[misc]
            if task.done():
                assert isinstance(task.exception(), KilledError)
                deaths += 1
                assert deaths <= TRYING_CLAIMS_MAX + 3
            else:
                ledger.send(ledger.command(1))
                await ledger.until_consumed(1, 1)
            await kill(consumer, task)
        head = ledger.record.heads[0]
        assert head.halted_record == "shop:0:1"
        assert (ledger.halted(), ledger.consumed(0)) == ({0}, 1)

    play(scene)


def test_waiting_for_a_server_is_no_try() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        refused: list[str] = []

        async def away(what: str) -> None:
            if what == "append":
                refused.append(what)
                raise StoreUnavailableError("away")

        ledger.send(ledger.command(0))
        for holder in ("without progress", "careful"):
            consumer = ledger.consumer(holder, step=away)
            task = asyncio.create_task(consumer.run())
            refused.clear()
            await ledger.until(lambda: len(refused) > 2 * TRYING_CLAIMS_MAX)
            await kill(consumer, task)
        assert ledger.record.heads[0].trying_claims == 1
        async with ledger.running():
            await ledger.until_consumed(0, 1)

    play(scene)


# --- the topics are the ones that the record was made from ----------------------------------------------------------


async def having_consumed(ledger: LedgerInMemory, count: int) -> None:
    """A consumer has consumed so many commands of each partition, and is gone."""
    for partition in range(ledger.partitions):
        ledger.send(*(ledger.command(partition) for _ in range(count)))
    async with ledger.running():
        for partition in range(ledger.partitions):
            await ledger.until_consumed(partition, count)


def recreate(ledger: LedgerInMemory) -> None:
    """The command topic is deleted and made again."""
    ledger.broker.delete_topic(ledger.topics.commands(APP))
    ledger.broker.create_topic(ledger.topics.commands(APP), ledger.partitions)


def test_a_recreated_topic_whose_offsets_look_right_halts() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await having_consumed(ledger, 2)
        recreate(ledger)
        for partition in (0, 1):
            ledger.send(*(ledger.command(partition) for _ in range(5)))
        async with ledger.running():
            for partition in (0, 1):
                assert "not the one that was consumed" in await ledger.until_halted(partition)
            await asyncio.sleep(10)
        assert [ledger.consumed(partition) for partition in (0, 1)] == [2, 2]

    play(scene)


def test_a_topic_that_ends_before_what_was_consumed_of_it_halts() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await having_consumed(ledger, 3)
        recreate(ledger)
        ledger.send(ledger.command(0))
        async with ledger.running():
            assert "ends at offset 1" in await ledger.until_halted(0)
            ledger.send(*(ledger.command(0) for _ in range(5)))
            await asyncio.sleep(10)
        assert ledger.consumed(0) == 3

    play(scene)


def test_a_topic_that_begins_behind_what_was_consumed_of_it_halts() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await having_consumed(ledger, 2)
        ledger.send(*(ledger.command(0) for _ in range(4)))
        ledger.broker.remove_before(ledger.topics.commands(APP), 0, 4)
        async with ledger.running():
            assert "begins at offset 4" in await ledger.until_halted(0)
            ledger.send(ledger.command(1))
            await ledger.until_consumed(1, 3)
        assert (ledger.halted(), ledger.consumed(0)) == ({0}, 2)

    play(scene)


def test_retention_of_what_is_consumed_halts_nothing() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await having_consumed(ledger, 2)
        ledger.broker.remove_before(ledger.topics.commands(APP), 0, 2)
        ledger.broker.remove_before(ledger.topics.commands(APP), 1, 1)
        ledger.send(ledger.command(0), ledger.command(1))
        async with ledger.running():
            for partition in (0, 1):
                await ledger.until_consumed(partition, 3)
        assert not ledger.halted()

    play(scene)


def test_commands_that_are_removed_while_their_consumer_waits_halt() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            ledger.send(*(ledger.command(0) for _ in range(3)))
            ledger.broker.remove_before(ledger.topics.commands(APP), 0, 3)
            await ledger.until_halted(0)
            ledger.send(ledger.command(1))
            await ledger.until_consumed(1, 1)
        assert (ledger.halted(), ledger.consumed(0)) == ({0}, 1)

    play(scene)


# --- the record is the one from which the events were published -----------------------------------------------------


async def restored(ledger: LedgerInMemory, *, published: int) -> None:
    """Two events of partition 0 are published, and the record is that of the moment after the first."""
    async with ledger.running():
        ledger.send(ledger.command(0))
        await ledger.until_consumed(0, 1)
        backup = ledger.record.backup()
        ledger.send(ledger.command(0))
        await ledger.until_consumed(0, 2)
    backup.heads[0].published_sequence = published
    ledger.record = backup


@pytest.mark.parametrize("published", [0, 1])
def test_a_record_that_ends_before_what_is_published_halts_and_publishes_nothing(published: int) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await restored(ledger, published=published)
        before = ledger.published(0)
        async with ledger.running():
            assert "restored from an older copy" in await ledger.until_halted(0)
            ledger.send(ledger.command(0), ledger.command(1))
            await ledger.until_consumed(1, 1)
            await asyncio.sleep(10)
        assert ledger.published(0) == before
        assert ledger.halted() == {0}

    play(scene)


def test_a_record_that_went_another_way_than_what_is_published_halts() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await restored(ledger, published=1)
        hand = Hand(InMemoryEventStore(ledger.record))
        await hand.claim(0)
        hand.entry(0, owner_id="somebody else")
        batch = hand.build()
        batch.offsets.clear()
        assert isinstance(await hand.store.append(batch), Appended)
        before = ledger.published(0)
        async with ledger.running():
            assert "another hash" in await ledger.until_halted(0)
            await asyncio.sleep(10)
        assert ledger.published(0) == before

    play(scene)


def foreign(event: RecordedEvent) -> bytes:
    return encode_event(msgspec.structs.replace(event, partition=1 - event.partition))


@pytest.mark.parametrize("wrong", [foreign, lambda event: b"{}"], ids=["of another partition", "no event"])
def test_something_else_than_the_partitions_event_at_the_end_of_the_events_halts(
    wrong: Callable[[RecordedEvent], bytes],
) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        await having_consumed(ledger, 1)
        (event,) = ledger.published(0)
        ledger.broker.append(ledger.topics.events, 0, event.owner_id.encode(), wrong(event))
        ledger.send(ledger.command(0), ledger.command(1))
        async with ledger.running():
            await ledger.until_halted(0)
            await ledger.until_consumed(1, 2)
        assert (ledger.halted(), ledger.consumed(0)) == ({0}, 1)

    play(scene)


# --- what is read ---------------------------------------------------------------------------------------------------


def test_a_consumer_of_another_number_of_partitions_does_not_start() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with asyncio.timeout(10):
            with pytest.raises(RecordMismatchError, match="LEDGER_PARTITIONS=2"):
                await ledger.consumer(partitions=3).run()

    play(scene)


def test_topics_of_another_size_and_of_unknown_apps_are_not_read_and_the_others_are() -> None:
    class MarketOperations(BaseLedgerOperations):
        app = "market"

    async def scene(ledger: LedgerInMemory) -> None:
        ledger.rules = Registry([ShopOperations, MarketOperations])
        for app, partitions in (("market", 3), ("stranger", ledger.partitions)):
            topic = ledger.topics.commands(app)
            ledger.broker.create_topic(topic, partitions)
            for partition in range(ledger.partitions):
                ledger.broker.append(topic, partition, b"x", b"{}")
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            await asyncio.sleep(10)
        assert {app for app, _ in ledger.record.offsets} == {APP}
        assert not ledger.record.quarantine
        assert not ledger.halted()

    play(scene)


@pytest.mark.parametrize("partitions", [None, 1, 3])
def test_nothing_is_decided_while_the_topics_of_answers_are_missing_or_of_another_size(partitions: int | None) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        ledger.broker.delete_topic(ledger.topics.replays)
        if partitions is not None:
            ledger.broker.create_topic(ledger.topics.replays, partitions)
        ledger.send(ledger.command(0))
        async with ledger.running():
            await asyncio.sleep(10)
            assert ledger.consumed(0) == 0
            if partitions is not None:
                ledger.broker.delete_topic(ledger.topics.replays)
            ledger.broker.create_topic(ledger.topics.replays, ledger.partitions)
            await ledger.until_consumed(0, 1)

    play(scene)


def test_commands_wait_while_too_many_events_are_unpublished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "EVENTS_WAITING_MAX", 10)
    monkeypatch.setattr(ledger_consumer, "BATCH_RECORDS_MAX", 5)

    async def scene(ledger: LedgerInMemory) -> None:
        open_again = asyncio.Event()

        class Slow:
            def __init__(self) -> None:
                self._publisher = ledger.broker.publisher()
                self.start = self._publisher.start
                self.stop = self._publisher.stop

            async def publish(self, *arguments: Any) -> int:
                await open_again.wait()
                return await self._publisher.publish(*arguments)

        ledger.send(*(ledger.command(0) for _ in range(100)))
        async with ledger.running(ledger.consumer(open_publisher=Slow)):
            await asyncio.sleep(30)
            assert 10 <= ledger.record.heads[0].sequence < 20
            open_again.set()
            await ledger.until_consumed(0, 100)

    play(scene)


# --- who holds a partition ------------------------------------------------------------------------------------------


def test_an_idle_holder_notices_a_late_claim_and_gets_its_partition_back() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            await ledger.until(lambda: ledger.record.heads[0].holder == "one")
            await InMemoryEventStore(ledger.record).claim(0, "a stale member")
            await ledger.until(lambda: ledger.record.heads[0].holder == "one")

    play(scene)


def test_a_fenced_consumer_asks_its_group_before_it_claims_again() -> None:
    """It may be the stale one: claiming on its old assignment would take partitions from their holders."""

    async def scene(ledger: LedgerInMemory) -> None:
        membership = ledger.broker.membership(ledger.topics.consumer_group, ledger.topics.events)
        async with ledger.running(ledger.consumer(membership=membership)):
            await ledger.until(lambda: ledger.record.heads[0].holder == "one")
            generation = membership.generation
            await InMemoryEventStore(ledger.record).claim(0, "another")
            ledger.send(ledger.command(0))
            await ledger.until(lambda: ledger.record.heads[0].holder == "one")
            assert membership.generation > generation
            await ledger.until_consumed(0, 1)

    play(scene)


def decoded(command: Command, partition: int, offset: int) -> DecodedRecord:
    return DecodedRecord(APP, Record("t", partition, offset, 0, command.owner_id.encode(), b"{}"), command)


async def claimed(ledger: LedgerInMemory, store: InMemoryEventStore, partition: int) -> dict[int, HeldPartition]:
    claim = await store.claim(partition, "somebody")
    assert claim is not None
    return {partition: HeldPartition(claim, ledger.partitions)}


def test_of_a_poll_with_one_lost_partition_the_others_are_appended() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        store = InMemoryEventStore(ledger.record)
        held = {**await claimed(ledger, store, 0), **await claimed(ledger, store, 1)}
        await store.claim(0, "another")
        appender = BatchAppender(store, ledger.rules, RecordClock(), lambda partition: 0)
        outcome = await appender.append(
            held, {partition: [decoded(ledger.command(partition), partition, 0)] for partition in (0, 1)}
        )
        assert outcome.lost == {0}
        assert [plan.held.partition for plan in outcome.plans] == [1]
        assert [ledger.record.heads[partition].sequence for partition in (0, 1)] == [0, 1]

    play(scene)


def test_a_rejected_command_that_is_sent_again_rolls_nothing_back() -> None:
    """Its id is looked up before it is rejected once more: the key would refuse it too, but only at the end."""
    results: list[AppendResult] = []

    class NotingStore(InMemoryEventStore):
        async def append(self, batch: AppendBatch) -> AppendResult:
            results.append(await super().append(batch))
            return results[-1]

    async def scene(ledger: LedgerInMemory) -> None:
        store = NotingStore(ledger.record)
        refused = ledger.command(0, "CREDIT_SPEND", -5)
        for offset in (0, 1):
            held = await claimed(ledger, store, 0)  # nothing is in memory
            appender = BatchAppender(store, ledger.rules, RecordClock(), lambda partition: 0)
            outcome = await appender.append(held, {0: [decoded(refused, 0, offset)]})
            assert [len(plan.events) for plan in outcome.plans] == [1 - offset]
        assert all(isinstance(result, Appended) for result in results)

    play(scene)


def test_events_are_dated_by_the_records_clock_whatever_time_it_is_on_this_machine() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        loop = asyncio.get_running_loop()
        ahead = RecordClock(lambda: loop.time() + 1e6, lambda: ledger.now().timestamp() + 250)
        async with ledger.running(ledger.consumer(clock=ahead)):
            for count in (1, 2):
                ledger.send(ledger.command(0))
                await ledger.until_consumed(0, count)
                await asyncio.sleep(100)
        for event, sent in zip(ledger.published(0), (0, 100), strict=True):
            assert abs((event.occurred_at - EPOCH).total_seconds() - sent) < 10

    play(scene)


# --- memory ---------------------------------------------------------------------------------------------------------


def test_what_was_not_used_lately_is_forgotten() -> None:
    recent: Recent[int, int] = Recent(10)
    for number in range(1_000):
        recent.update([(number, number)])
        assert recent.get(-1) is None
        assert recent.get(0) == 0, "what is used is kept"
    assert len(recent) <= 21
    assert recent.get(999) == 999
    assert recent.get(500) is None
