"""Ledger consumers that stop, die, freeze and come back, on real servers. Nothing lost, doubled or reordered."""

import asyncio
import itertools
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from uuid import UUID

import pytest

from consumers.ledger_consumer import LedgerConsumer
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.event_store.postgres import PostgresEventStore
from tests.consumer_process import consumer_process
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers

MOVED_WITHIN_S = 10.0
OWNERS = [f"owner-{number}" for number in range(40)]


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url, partitions=6) as running:
        yield running


async def holders(ledger: LedgerOnServers) -> set[str]:
    rows = await ledger.pool.fetch("SELECT DISTINCT holder FROM ledger.partition_head WHERE holder IS NOT NULL")
    return {row["holder"] for row in rows}


async def until_held_by(ledger: LedgerOnServers, *expected: str) -> None:
    await ledger.until("SELECT array_agg(DISTINCT holder ORDER BY holder) FROM ledger.partition_head", sorted(expected))


async def load(ledger: LedgerOnServers, rounds: int, sent: list[UUID]) -> None:
    """One credit to every owner a round, each command id noted when Kafka has it."""
    for _ in range(rounds):
        for owner in OWNERS:
            one = command(owner, "CREDIT_ADD", 1)
            await ledger.send(one)
            sent.append(one.command_id)
        await asyncio.sleep(0)


async def assert_nothing_lost_doubled_or_reordered(ledger: LedgerOnServers, sent: Sequence[UUID]) -> None:
    events = await ledger.events()
    assert sorted(event.command_id for event in events) == sorted(sent)
    order = {command_id: place for place, command_id in enumerate(sent)}
    for owner in OWNERS:
        own = [event for event in events if event.owner_id == owner]
        places = [order[event.command_id] for event in own]
        assert places == sorted(places)
        assert [event.balance_after for event in own] == list(range(1, len(own) + 1))
    for partition in range(ledger.partitions):
        chain = [event for event in events if event.partition == partition]
        assert [event.sequence for event in chain] == list(range(1, len(chain) + 1))
        assert all(after.prev_hash == before.hash for before, after in itertools.pairwise(chain))
    await ledger.until_published()
    first_seen: dict[int, list[int]] = {}
    published = await ledger.published(ledger.topics.events)
    for partition, event in published:
        seen = first_seen.setdefault(partition, [])
        if event.sequence not in seen:
            seen.append(event.sequence)
    assert {event.position for _, event in published} == {event.position for event in events}
    assert all(seen == sorted(seen) for seen in first_seen.values())


@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
async def test_partitions_move_within_ten_seconds_when_a_consumer_is_stopped_killed_or_frozen(
    ledger: LedgerOnServers, fault: signal.Signals
) -> None:
    sent: list[UUID] = []
    with ExitStack() as stack:
        doomed = stack.enter_context(consumer_process(ledger, "doomed"))
        stack.enter_context(consumer_process(ledger, "heir"))
        await until_held_by(ledger, "doomed", "heir")
        await load(ledger, 5, sent)
        loading = asyncio.create_task(load(ledger, 20, sent))
        await ledger.until("SELECT count(*) > 300 FROM ledger.event", True)
        doomed.send_signal(fault)
        at = time.monotonic()
        await until_held_by(ledger, "heir")
        moved_after = time.monotonic() - at
        await loading
        await ledger.until_events(len(sent))
        if fault is signal.SIGSTOP:
            # It thaws with a batch in hand, is fenced, and joins again.
            doomed.send_signal(signal.SIGCONT)
            await until_held_by(ledger, "doomed", "heir")
            await load(ledger, 5, sent)
            await ledger.until_events(len(sent))
        await ledger.until_published()
    await assert_nothing_lost_doubled_or_reordered(ledger, sent)
    assert moved_after < MOVED_WITHIN_S


async def test_kill_between_commit_and_publish(ledger: LedgerOnServers) -> None:
    """What was committed but not published is published by the next holder, before anything newer."""

    class NeverPublishes(KafkaPublisher):
        async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    sent = [command(owner, "CREDIT_ADD", 1) for owner in OWNERS]
    victim = ledger.consumer("victim")
    victim._relay._open_publisher = lambda: NeverPublishes(ledger.bootstrap)
    dying = asyncio.create_task(victim.run())
    await ledger.send(*sent)
    await ledger.until_events(len(sent))
    await kill(victim, dying)
    assert await ledger.published(ledger.topics.events) == []
    async with ledger.running("heir"):
        later = command(OWNERS[0], "CREDIT_ADD", 1)
        await ledger.send(later)
        await ledger.until_events(len(sent) + 1)
        await assert_nothing_lost_doubled_or_reordered(ledger, [*(one.command_id for one in sent), later.command_id])


async def test_an_accepted_command_sent_again_after_its_partition_moved(ledger: LedgerOnServers) -> None:
    """The next holder has nothing in memory: the unique key answers, and the first outcome is given again."""
    accepted = command("ada", "CREDIT_ADD", 7)
    refused = command("ada", "CREDIT_SPEND", -100)
    async with ledger.running("first"):
        await ledger.send(accepted, refused)
        await ledger.until_events(2)
    async with ledger.running("second"):
        # Enough to be accepted now: but the answer that was given stays.
        await ledger.send(command("ada", "CREDIT_ADD", 500), accepted, refused)
        await ledger.send(command("ada", "CREDIT_ADD", 1, nonce=accepted.nonce))
        await ledger.until_events(4)
        await ledger.until_published()
    events = await ledger.events()
    assert [event.reason for event in events] == [None, "INSUFFICIENT_CREDITS", None, "DUPLICATE_NONCE"]
    assert events[3].detail == str(events[0].position)
    assert [event for _, event in await ledger.published(ledger.topics.replays)] == events[:2]


async def test_a_late_claim_by_a_stale_member(ledger: LedgerOnServers) -> None:
    """It costs one rebalance, and leaves no partition without a holder that works."""
    async with ledger.running("true holder"):
        await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))
        await ledger.until_events(len(OWNERS))
        stale = PostgresEventStore(ledger.database_url, "stale member")
        for partition in range(ledger.partitions):
            assert await stale.claim(partition, "stale member") is not None
        await stale.stop()
        await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))
        await ledger.until_events(2 * len(OWNERS))
        await until_held_by(ledger, "true holder")


async def test_five_restarts_while_idle_halt_nothing(ledger: LedgerOnServers) -> None:
    for restart in range(6):
        consumer = ledger.consumer(f"restart {restart}")
        task = asyncio.create_task(consumer.run())
        await until_held_by(ledger, f"restart {restart}")
        await kill(consumer, task)
    async with ledger.running("last"):
        await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))
        await ledger.until_events(len(OWNERS))
    assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.partition_head WHERE trying_claims > 1") == 0


async def test_a_record_that_kills_every_holder_halts_its_partition_only(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(BaseException):
        """As good as kill -9 for this process's consumer: nothing of it runs on."""

    poison = command("poison", "CREDIT_ADD", 1)
    other = next(owner for owner in OWNERS if ledger.partition(owner) != ledger.partition("poison"))
    from consumers.batch import decide_partition as decide

    def deadly(held, records, *rest):  # type: ignore[no-untyped-def]
        if any(getattr(one.content, "command_id", None) == poison.command_id for one in records):
            raise KilledError
        return decide(held, records, *rest)

    monkeypatch.setattr("consumers.appending.decide_partition", deadly)
    await ledger.send(command("poison", "CREDIT_ADD", 1), poison, command("poison", "CREDIT_ADD", 1))
    for attempt in range(10):
        consumer = ledger.consumer(f"attempt {attempt}")
        task = asyncio.create_task(consumer.run())
        halted = asyncio.create_task(
            ledger.until("SELECT count(*) FROM ledger.partition_head WHERE halted_because IS NOT NULL", 1)
        )
        await asyncio.wait([task, halted], return_when=asyncio.FIRST_COMPLETED)
        if halted.done():
            await ledger.send(command(other, "CREDIT_ADD", 1))
            await ledger.until_events(2)
            await kill(consumer, task)
            break
        halted.cancel()
        with pytest.raises(KilledError):
            await task
    else:
        raise AssertionError("the partition was never halted")
    row = await ledger.pool.fetchrow("SELECT * FROM ledger.partition_head WHERE halted_because IS NOT NULL")
    assert row is not None
    assert row["partition"] == ledger.partition("poison")
    assert row["halted_record"] == f"example-app:{row['partition']}:1"
    assert row["halted_record"] in row["halted_because"]
    assert row["trying_claims"] == 5


@pytest.mark.parametrize("published", [1, 0], ids=["all of the copy published", "some of the copy unpublished"])
async def test_a_ledger_restored_from_an_older_copy_goes_on_with_nothing(
    ledger: LedgerOnServers, published: int
) -> None:
    """Apps have seen events that the record lacks: giving their sequences to others would rewrite history."""
    async with ledger.running("before"):
        await ledger.send(command("ada", "CREDIT_ADD", 1), command("ada", "CREDIT_ADD", 2))
        await ledger.until_events(2)
        await ledger.until_published()
    partition = ledger.partition("ada")
    async with ledger.pool.acquire() as connection, connection.transaction():
        # As a backup of the moment after the first event would have it.
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM ledger.event WHERE sequence = 2")
        await connection.execute("DELETE FROM ledger.command_key WHERE sequence = 2")
        await connection.execute("DELETE FROM ledger.nonce_key WHERE sequence = 2")
        await connection.execute("UPDATE ledger.account SET balance = 1, version = 1")
        await connection.execute(
            "UPDATE ledger.partition_head SET sequence = 1, published_sequence = $2, consumed = 1, "
            "hash = (SELECT hash FROM ledger.event WHERE event.partition = partition_head.partition) "
            "WHERE partition = $1",
            partition,
            published,
        )
        await connection.execute("UPDATE ledger.command_offset SET next_offset = 1, last_offset = 0")
    await ledger.send(command("ada", "CREDIT_ADD", 3))
    other = next(owner for owner in OWNERS if ledger.partition(owner) != partition)
    for start in (1, 2):  # what the first start publishes must not deceive the second
        await ledger.pool.execute("UPDATE ledger.partition_head SET halted_because = NULL")
        async with ledger.running(f"after {start}"):
            await ledger.until(
                "SELECT halted_because LIKE '%restored from an older copy%' FROM ledger.partition_head "
                "WHERE partition = $1",
                True,
                partition,
            )
            await ledger.send(command(other, "CREDIT_ADD", start))
            await ledger.until("SELECT count(*) FROM ledger.event WHERE owner_id = $1", start, other)
            assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.event WHERE owner_id = 'ada'") == 1


async def kill(consumer: LedgerConsumer, task: asyncio.Task[None]) -> None:
    """End a consumer in this process without letting it say goodbye."""
    consumer._leave = lambda clean: asyncio.sleep(0)  # type: ignore[method-assign]
    task.cancel()
    await asyncio.wait([task])
    for partition in list(consumer._holdings.held):
        consumer._relay.end(partition)
    await consumer._membership.stop()
    await consumer._reader.stop()
    await consumer._tail_reader.stop()
    await consumer._store.stop()  # type: ignore[attr-defined]  # both stores have it
