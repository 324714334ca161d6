"""What stands still, for how long, and what goes on meanwhile: the real consumer on the twins, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from consumers.record_clock import RecordClock
from ledger.broker.protocol import TopicPartition
from ledger.event_store.protocol import StoreUnavailableError
from ledger.operations import BaseLedgerOperations, Registry
from tests.ledger_in_memory import APP, LedgerInMemory, ShopOperations
from tests.simulation import virtual_time

Scene = Callable[[LedgerInMemory], Coroutine[Any, Any, None]]


def play(scene: Scene) -> None:
    """Run it in virtual time."""

    async def run() -> None:
        await scene(LedgerInMemory())

    virtual_time.run(run())


@pytest.mark.parametrize("ahead_s", [301.0, -301.0])
def test_clocks_too_far_apart_stop_deciding_until_they_agree(ahead_s: float) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        skew = [ahead_s]
        loop = asyncio.get_running_loop()
        clock = RecordClock(loop.time, lambda: ledger.now().timestamp() + skew[0])
        async with ledger.running(ledger.consumer(clock=clock)):
            assert "CLOCK SKEW" in await ledger.until_halted(0)
            ledger.send(ledger.command(0))
            await asyncio.sleep(20)
            assert ledger.consumed(0) == 0
            skew[0] = 1.0
            await ledger.until_consumed(0, 1)
            await ledger.until(lambda: not ledger.halted())

    play(scene)


@pytest.mark.parametrize("topic", ["commands", "events"])
def test_a_partition_without_a_leader_holds_up_no_other(topic: str) -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        name = ledger.topics.events if topic == "events" else ledger.topics.commands(APP)
        ledger.broker.leaderless.add(TopicPartition(name, 0))
        ledger.send(ledger.command(0), ledger.command(1))
        async with ledger.running():
            await ledger.until_consumed(1, 1)
            assert ledger.consumed(0) == 0
            ledger.broker.leaderless.clear()
            await ledger.until_consumed(0, 1)
        assert not ledger.halted()

    play(scene)


def test_what_an_operator_has_taken_is_claimed_again_without_a_rebalance() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running() as consumer:
            ledger.send(ledger.command(0), ledger.command(1))
            await ledger.until_consumed(0, 1)
            generation, others = consumer._membership.generation, ledger.record.heads[1].epoch
            head = ledger.record.heads[0]
            head.epoch, head.holder = head.epoch + 1, None
            await ledger.until(lambda: head.holder == "one")
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 2)
            assert consumer._membership.generation == generation
            assert ledger.record.heads[1].epoch == others

    play(scene)


def test_commands_removed_before_anybody_consumed_of_their_topic_halt() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        ledger.send(ledger.command(0), ledger.command(0))
        ledger.broker.remove_before(ledger.topics.commands(APP), 0, 1)
        async with ledger.running():
            assert "ledger recover offsets shop" in await ledger.until_halted(0)
        assert ledger.consumed(0) == 0

    play(scene)


def test_what_lies_before_a_command_that_cannot_be_decided_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    from ledger.domain.decider import decide

    def failing(command: Any, *rest: Any) -> Any:
        if command.operation == "FLY":
            raise ZeroDivisionError("a defect of the rules")
        return decide(command, *rest)

    monkeypatch.setattr("consumers.batch.decide", failing)

    async def scene(ledger: LedgerInMemory) -> None:
        ledger.send(ledger.command(0), ledger.command(0), ledger.command(0, "FLY"), ledger.command(0))
        async with ledger.running():
            assert "ledger recover record shop:0:2" in await ledger.until_halted(0)
        assert (ledger.consumed(0), ledger.record.heads[0].halted_record) == (2, "shop:0:2")

    play(scene)


def test_a_topic_deleted_and_made_again_under_a_consumer_is_compared_again() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            ledger.broker.delete_topic(ledger.topics.commands(APP))
            await asyncio.sleep(10)
            ledger.broker.create_topic(ledger.topics.commands(APP), ledger.partitions)
            ledger.send(*(ledger.command(0) for _ in range(3)))
            assert "ledger recover topic shop" in await ledger.until_halted(0)
        assert ledger.consumed(0) == 1

    play(scene)


def test_a_log_that_is_not_the_one_of_the_record_halts_its_app_and_no_other() -> None:
    class MarketOperations(BaseLedgerOperations):
        app = "market"

    async def scene(ledger: LedgerInMemory) -> None:
        ledger.rules = Registry([ShopOperations, MarketOperations])
        ledger.broker.create_topic(ledger.topics.commands("market"), ledger.partitions)
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
        ledger.broker.delete_topic(ledger.topics.commands(APP))
        ledger.broker.create_topic(ledger.topics.commands(APP), ledger.partitions)
        ledger.send(ledger.command(0), ledger.command(0))
        async with ledger.running():
            await ledger.until_halted(0)
            ledger.send(msgspec.structs.replace(ledger.command(0), app="market"))
            await ledger.until_consumed(0, 2)
            await asyncio.sleep(10)
        assert (ledger.consumed(0), ledger.consumed(0, "market")) == (1, 1)
        assert list(ledger.record.heads[0].halted_apps or {}) == [APP]

    play(scene)


def recreate(ledger: LedgerInMemory) -> None:
    """The command topic is made again, with more in it than was consumed of the old one."""
    ledger.broker.delete_topic(ledger.topics.commands(APP))
    ledger.broker.create_topic(ledger.topics.commands(APP), ledger.partitions)
    ledger.send(*(ledger.command(0) for _ in range(3)))


def test_a_topic_made_again_while_postgres_was_away_is_compared_again() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        away = False

        async def step(what: str) -> None:
            if away:
                raise StoreUnavailableError("away")

        async with ledger.running(ledger.consumer(step=step)):
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            away = True
            await asyncio.sleep(20)
            recreate(ledger)
            await asyncio.sleep(20)
            away = False
            assert "ledger recover topic shop" in await ledger.until_halted(0)
        assert ledger.consumed(0) == 1

    play(scene)


def test_a_topic_made_again_while_kafka_was_away_is_compared_again() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            ledger.broker.available = False
            await asyncio.sleep(20)
            recreate(ledger)
            ledger.broker.available = True
            assert "ledger recover topic shop" in await ledger.until_halted(0)
        assert ledger.consumed(0) == 1

    play(scene)


def test_a_topic_made_again_between_two_looks_at_the_list_of_topics_is_compared_again() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running():
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            ledger.broker.delete_topic(ledger.topics.commands(APP))
            await asyncio.sleep(0.5)
            ledger.broker.create_topic(ledger.topics.commands(APP), ledger.partitions)
            ledger.send(*(ledger.command(0) for _ in range(3)))
            assert "ledger recover topic shop" in await ledger.until_halted(0)
        assert ledger.consumed(0) == 1

    play(scene)


def test_the_time_of_an_event_does_not_go_back_when_the_databases_clock_does() -> None:
    async def scene(ledger: LedgerInMemory) -> None:
        async with ledger.running() as consumer:
            await asyncio.sleep(100)
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 1)
            before = ledger.published(0)[0].occurred_at
            ledger.record.clock = lambda: ledger.now() - timedelta(seconds=50)
            ledger.send(ledger.command(0))
            await ledger.until_consumed(0, 2)
            consumer._holdings.set_clock(ledger.record.clock())  # as the next fence does
            ledger.send(ledger.command(0), ledger.command(1))
            await ledger.until_consumed(0, 3)
            await ledger.until_consumed(1, 1)
        times = [event.occurred_at for event in ledger.published(0)]
        assert times == sorted(times)
        assert times[2] == times[1] >= before, "as long as the clock lags, time stands"
        assert ledger.published(1)[0].occurred_at < before, "the clock did go back"

    play(scene)
