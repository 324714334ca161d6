"""Waiting for outcomes at the ends of the topics, on a real cluster and on the in-memory one."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.broker import tail_reader as module
from ledger.broker.protocol import BrokerUnavailableError, TopicSpec
from ledger.broker.tail_reader import TailReader, TailReadError, TooManyWaitersError
from ledger.domain.event import RecordedEvent
from ledger.messages.command_ids import new_command_id
from ledger.messages.event_codec import encode_event
from ledger.messages.topics import Topics
from tests.contract.clusters import Cluster, InMemoryCluster, unique

PARTITIONS = 3
WAIT_S = 10.0


@pytest.fixture
async def topics(cluster: Cluster) -> Topics:
    topics = Topics(unique("tail"))
    await cluster.admin().create([TopicSpec(name, PARTITIONS, 1, -1) for name in (topics.events, topics.replays)])
    return topics


@pytest.fixture
async def tail(cluster: Cluster, topics: Topics) -> AsyncIterator[TailReader]:
    tail = TailReader(cluster.reader(), topics, PARTITIONS)
    await tail.start()
    yield tail
    await tail.stop()


def event(owner_id: str, command_id: UUID, app: str = "shop") -> RecordedEvent:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return RecordedEvent(
        type="entry_posted",
        partition=1,
        sequence=1,
        app=app,
        command_id=command_id,
        operation="CREDIT_ADD",
        owner_id=owner_id,
        credit_type="credits",
        account_version=1,
        amount=10,
        balance_after=10,
        nonce="n",
        issued_at=now,
        occurred_at=now,
        prev_hash="0" * 64,
        hash="1" * 64,
    )


async def tell(cluster: Cluster, topic: str, told: RecordedEvent, partition: int = 1) -> None:
    await cluster.append(topic, partition, told.owner_id.encode(), encode_event(told))


async def outcome(waiting: "asyncio.Future[RecordedEvent]") -> RecordedEvent:
    async with asyncio.timeout(WAIT_S):
        return await waiting


async def test_an_event_reaches_whoever_waits_for_it(cluster: Cluster, topics: Topics, tail: TailReader) -> None:
    told = event("ada", new_command_id())
    waiting = tail.register("shop", "ada", told.command_id)
    await tell(cluster, topics.events, told)
    assert await outcome(waiting) == told
    assert not waiting.replayed
    await asyncio.sleep(0)
    assert tail.waiters == 0


async def test_a_replay_reaches_whoever_waits_for_it_and_says_so(
    cluster: Cluster, topics: Topics, tail: TailReader
) -> None:
    told = event("ada", new_command_id())
    waiting = tail.register("shop", "ada", told.command_id)
    await tell(cluster, topics.replays, told)
    assert await outcome(waiting) == told
    assert waiting.replayed


async def test_several_can_wait_for_one_command(cluster: Cluster, topics: Topics, tail: TailReader) -> None:
    told = event("ada", new_command_id())
    waiting = [tail.register("shop", "ada", told.command_id) for _ in range(3)]
    waiting[1].cancel()
    await tell(cluster, topics.events, told)
    assert await outcome(waiting[0]) == told
    assert await outcome(waiting[2]) == told
    await asyncio.sleep(0)
    assert tail.waiters == 0


async def test_an_outcome_is_that_of_the_app_the_owner_and_the_command(
    cluster: Cluster, topics: Topics, tail: TailReader
) -> None:
    command_id = new_command_id()
    wanted = event("ada", command_id)
    waiting = tail.register("shop", "ada", command_id)
    await tell(cluster, topics.events, event("ada", command_id, app="blog"))
    await tell(cluster, topics.events, event("bob", command_id))
    await tell(cluster, topics.events, event("ada", new_command_id()))
    await cluster.append(topics.events, 1, b"ada", b"not an event")
    await cluster.append(topics.events, 1, b"ada", None)
    await cluster.append(topics.events, 1, None, b"no key")
    await tell(cluster, topics.events, wanted)
    assert await outcome(waiting) == wanted


async def test_what_was_published_before_the_start_is_not_read(cluster: Cluster, topics: Topics) -> None:
    earlier = event("ada", new_command_id())
    await tell(cluster, topics.events, earlier)
    tail = TailReader(cluster.reader(), topics, PARTITIONS)
    await tail.start()
    waiting = tail.register("shop", "ada", earlier.command_id)
    later = event("ada", new_command_id())
    also_waiting = tail.register("shop", "ada", later.command_id)
    await tell(cluster, topics.events, later)
    assert await outcome(also_waiting) == later
    assert not waiting.done()
    await tail.stop()
    with pytest.raises(TailReadError):
        await waiting


async def test_an_event_published_right_after_the_start_is_seen(cluster: Cluster, topics: Topics) -> None:
    """The ends of both topics are fixed when `start` returns, not when the first poll comes."""
    for _ in range(5):
        tail = TailReader(cluster.reader(), topics, PARTITIONS)
        await tail.start()
        told = event("ada", new_command_id())
        waiting = tail.register("shop", "ada", told.command_id)
        await tell(cluster, topics.events, told)
        assert await outcome(waiting) == told
        await tail.stop()


async def test_cancelled_waiters_are_forgotten(tail: TailReader) -> None:
    waiting = [tail.register("shop", f"owner-{number}", new_command_id()) for number in range(100)]
    assert tail.waiters == 100
    for future in waiting:
        future.cancel()
    await asyncio.sleep(0)
    assert tail.waiters == 0
    assert tail._waiting == {}


async def test_there_is_a_limit_of_waiters(tail: TailReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITERS_MAX", 2)
    first = tail.register("shop", "ada", new_command_id())
    tail.register("shop", "ada", new_command_id())
    with pytest.raises(TooManyWaitersError):
        tail.register("shop", "ada", new_command_id())
    first.cancel()
    await asyncio.sleep(0)
    tail.register("shop", "ada", new_command_id())


async def test_nobody_waits_on_a_reader_that_does_not_read(cluster: Cluster, topics: Topics) -> None:
    tail = TailReader(cluster.reader(), topics, PARTITIONS)
    with pytest.raises(TailReadError):
        tail.register("shop", "ada", new_command_id())
    await tail.start()
    await tail.stop()
    with pytest.raises(TailReadError):
        tail.register("shop", "ada", new_command_id())


async def test_events_that_may_have_passed_unseen_end_the_waiting_and_later_ones_are_seen() -> None:
    """Retention has overtaken the reader while the cluster was away."""
    cluster = InMemoryCluster()
    topics = Topics()
    for name in (topics.events, topics.replays):
        cluster.broker.create_topic(name, PARTITIONS)
    tail = TailReader(cluster.reader(), topics, PARTITIONS)
    await tail.start()
    unseen, later = event("ada", new_command_id()), event("ada", new_command_id())
    waiting = tail.register("shop", "ada", unseen.command_id)
    cluster.broker.available = False
    await tell(cluster, topics.replays, unseen)
    await tell(cluster, topics.replays, unseen)
    await cluster.remove_before(topics.replays, 1, 2)
    cluster.broker.available = True
    with pytest.raises(TailReadError, match="unseen"):
        await outcome(waiting)
    also_waiting = tail.register("shop", "ada", later.command_id)
    await tell(cluster, topics.replays, later)
    assert await outcome(also_waiting) == later
    await tail.stop()


async def test_an_outage_is_survived_without_losing_an_outcome() -> None:
    cluster = InMemoryCluster()
    topics = Topics()
    for name in (topics.events, topics.replays):
        cluster.broker.create_topic(name, PARTITIONS)
    tail = TailReader(cluster.reader(), topics, PARTITIONS)
    cluster.broker.available = False
    with pytest.raises(BrokerUnavailableError):
        await tail.start()
    cluster.broker.available = True
    await tail.start()
    told = event("ada", new_command_id())
    waiting = tail.register("shop", "ada", told.command_id)
    cluster.broker.available = False
    await tell(cluster, topics.events, told)
    await asyncio.wait([waiting], timeout=0.3)
    assert not waiting.done()
    cluster.broker.available = True
    assert await outcome(waiting) == told
    await tail.stop()


async def test_an_error_nobody_foresaw_is_told_to_those_who_wait() -> None:
    cluster = InMemoryCluster()
    topics = Topics()
    for name in (topics.events, topics.replays):
        cluster.broker.create_topic(name, PARTITIONS)
    reader = cluster.broker.reader()
    tail = TailReader(reader, topics, PARTITIONS)
    await tail.start()
    waiting = tail.register("shop", "ada", new_command_id())
    cluster.broker.log = None  # type: ignore[assignment]
    await cluster.append(topics.events, 0, b"k", b"v")
    with pytest.raises(TailReadError, match="ended"):
        await outcome(waiting)
    with pytest.raises(TailReadError):
        tail.register("shop", "ada", new_command_id())
    await tail.stop()
