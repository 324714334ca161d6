"""A record that lost committed events is noticed by whoever knew them, though they were never published."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from uuid import UUID, uuid4

import pytest

from consumers.holdings import Holdings
from consumers.record_clock import RecordClock
from consumers.relay import Relay
from ledger.event_store.protocol import Appended, ForeignLedgerError
from ledger.messages.topics import Topics
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.contract.hand import Hand

PARTITIONS = 2
NOW = datetime(2026, 1, 31, tzinfo=UTC)


class Holder:
    """Holdings of one process on a record that can be swapped under it. Kafka is there, but nothing is published."""

    def __init__(self, record: InMemoryRecord) -> None:
        self.store = InMemoryEventStore(record)
        broker = InMemoryBroker()
        topics = Topics("ledger")
        broker.create_topic(topics.events, PARTITIONS)
        self.tail_reader = broker.reader()
        self.relay = Relay(self.store, broker.publisher, topics, Random(1))
        self.holdings = Holdings(
            holder="one",
            store=self.store,
            relay=self.relay,
            tail_reader=self.tail_reader,
            topics=topics,
            partitions=PARTITIONS,
            clock=RecordClock(),
        )

    async def take_over(self) -> None:
        await self.holdings.take_over(frozenset(range(PARTITIONS)), lambda: None)

    @property
    def halted(self) -> dict[int, str]:
        held = self.holdings.held.values()
        return {one.partition: one.halted_because for one in held if one.halted_because is not None}


async def written(record: InMemoryRecord, partition: int, count: int) -> None:
    """So many events, by an earlier holder; none is published."""
    hand = Hand(InMemoryEventStore(record))
    await hand.claim(partition)
    for _ in range(count):
        hand.entry(partition, owner_id=uuid4().hex)
    await hand.write()


async def holding(events: int) -> tuple[Holder, InMemoryRecord]:
    """A process that holds everything; and a copy of the record from before the last of the events of partition 0,
    under the epochs of this process, as a standby that lags would have it."""
    record = InMemoryRecord.initialised(UUID(int=1), PARTITIONS, lambda: NOW)
    await written(record, 1, 2)
    await written(record, 0, events - 1)
    older = record.backup()
    await written(record, 0, 1)
    older.heads[0].epoch = record.heads[0].epoch
    for partition in range(PARTITIONS):
        older.heads[partition].epoch += 1
    holder = Holder(record)
    await holder.tail_reader.start()
    await holder.take_over()
    assert not holder.halted
    return holder, older


async def test_events_that_are_gone_halt_their_partition_alone() -> None:
    holder, older = await holding(3)
    holder.store.record = older
    assert await holder.holdings.compare()
    assert list(holder.halted) == [0]
    assert "the record ends at 0:2, but 0:3 was committed: event 0:3 is missing" in holder.halted[0]
    assert "'A restored database'" in holder.halted[0]
    await holder.relay.drain(1.0)


async def test_events_that_somebody_else_wrote_under_our_epoch_halt_their_partition_alone() -> None:
    holder, _ = await holding(3)
    record = holder.store.record
    intruder = Hand(InMemoryEventStore(record))
    await intruder.claim(0)
    record.heads[0].epoch -= 1
    intruder.places[0].epoch -= 1
    intruder.entry(0, owner_id="somebody")
    batch = intruder.build()
    batch.offsets.clear()
    assert isinstance(await intruder.store.append(batch), Appended)
    assert await holder.holdings.compare()
    assert list(holder.halted) == [0]
    assert "something else writes to it" in holder.halted[0]
    await holder.relay.drain(1.0)


async def test_the_regular_look_finds_it_where_nothing_goes_on() -> None:
    holder, older = await holding(3)
    holder.store.record = older
    holder.holdings.check_soon()
    assert not await holder.holdings.check()
    assert list(holder.halted) == [0]
    await holder.relay.drain(1.0)


async def test_the_same_record_is_no_contradiction() -> None:
    holder, _ = await holding(3)
    assert not await holder.holdings.compare()
    holder.store.record = holder.store.record.backup()
    assert not await holder.holdings.compare()
    await holder.relay.drain(1.0)


def as_it_is(older: InMemoryRecord) -> None:
    """Its epochs are those of this process."""


def without_the_claim(older: InMemoryRecord) -> None:
    """It lacks the claims of this process too."""
    for head in older.heads.values():
        head.epoch -= 1


def claimed_by_others(older: InMemoryRecord) -> None:
    for head in older.heads.values():
        head.epoch += 5


@pytest.mark.parametrize("change", [as_it_is, without_the_claim, claimed_by_others])
@pytest.mark.parametrize("give_up", ["doubt_all", "drop_all"])
async def test_a_claim_after_a_lost_connection_compares_too(
    change: Callable[[InMemoryRecord], None], give_up: str
) -> None:
    holder, older = await holding(4)
    change(older)
    holder.store.record = older
    getattr(holder.holdings, give_up)()
    for _ in range(2):  # the second time it knows still
        if await holder.holdings.take_over(frozenset(range(PARTITIONS)), lambda: None):
            holder.holdings.drop_all()  # fenced, as the loop does it
            await holder.take_over()
        assert list(holder.halted) == [0]
        assert "event 0:4 is missing" in holder.halted[0]
        holder.holdings.drop_all()
    await holder.relay.drain(1.0)


async def test_a_record_that_went_on_under_others_is_no_contradiction() -> None:
    holder, _ = await holding(3)
    holder.holdings.drop_all()
    await written(holder.store.record, 0, 5)
    await holder.take_over()
    assert not holder.halted
    await holder.relay.drain(1.0)


async def test_another_history_of_the_same_length_is_noticed() -> None:
    holder, older = await holding(3)
    await written(older, 0, 1)
    older.heads[0].epoch -= 1  # as if nobody else had claimed it
    holder.store.record = older
    assert await holder.holdings.compare()
    assert "another event at 0:3" in holder.halted[0]
    holder.holdings.drop_all()
    await written(older, 0, 4)
    await holder.take_over()
    assert "another event at 0:3" in holder.halted[0]
    await holder.relay.drain(1.0)


async def test_several_lost_events_are_named() -> None:
    holder, older = await holding(3)
    older.heads[0].sequence = 0
    holder.store.record = older
    await holder.holdings.compare()
    assert "the 3 events 0:1 to 0:3 are missing" in holder.halted[0]
    await holder.relay.drain(1.0)


async def test_another_ledgers_record_is_not_touched() -> None:
    holder, _ = await holding(3)
    foreign = InMemoryRecord.initialised(UUID(int=2), PARTITIONS, lambda: NOW)
    before = holder.store.record
    holder.store.record = foreign
    holder.holdings.doubt_all()
    with pytest.raises(ForeignLedgerError, match="put the right database back"):
        await holder.take_over()
    assert all(head.epoch == 0 for head in foreign.heads.values())
    holder.store.record = before
    await holder.take_over()
    assert not holder.halted
    await holder.relay.drain(1.0)
