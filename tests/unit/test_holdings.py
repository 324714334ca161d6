"""What a holder says to the record when it gives partitions up."""

from datetime import UTC, datetime
from random import Random
from uuid import UUID

from consumers.holdings import Holdings
from consumers.record_clock import RecordClock
from consumers.relay import Relay
from ledger.event_store.protocol import TRYING_CLAIMS_MAX
from ledger.messages.topics import Topics
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord

PARTITIONS = 2
TOPICS = Topics("ledger")


def new_store() -> InMemoryEventStore:
    return InMemoryEventStore(
        InMemoryRecord.initialised(UUID(int=1), PARTITIONS, lambda: datetime(2026, 1, 31, tzinfo=UTC))
    )


async def new_holdings(store: InMemoryEventStore, holder: str) -> tuple[Holdings, Relay]:
    broker = InMemoryBroker()
    broker.create_topic(TOPICS.events, PARTITIONS)
    tail_reader = broker.reader()
    await tail_reader.start()
    relay = Relay(store, broker.publisher, TOPICS, Random(1))
    holdings = Holdings(
        holder=holder,
        store=store,
        relay=relay,
        tail_reader=tail_reader,
        topics=TOPICS,
        partitions=PARTITIONS,
        clock=RecordClock(),
    )
    return holdings, relay


async def test_a_partition_in_doubt_that_another_has_claimed_meanwhile_is_left_to_it() -> None:
    """Taken back, it would be taken from its new holder: the group has to say whose it is."""
    store = new_store()
    holdings, relay = await new_holdings(store, "one")
    assert await holdings.take_over(frozenset({0, 1}), lambda: None) == frozenset()
    holdings.doubt_all()
    await store.claim(1, "another")
    assert await holdings.take_over(frozenset({0, 1}), lambda: None) == frozenset({1})
    assert store.record.heads[1].holder == "another"
    holdings.drop_all()
    assert await holdings.take_over(frozenset({0, 1}), lambda: None) == frozenset(), "a new assignment is a new right"
    assert store.record.heads[1].holder == "one"
    await relay.drain(1.0)


async def test_a_record_that_kills_stays_halted_when_its_partition_moves_to_another_holder() -> None:
    store = new_store()
    for _ in range(TRYING_CLAIMS_MAX):
        claim = await store.claim(0, "killed")
        assert claim is not None
        await store.note_trying(0, claim.epoch, "example-app:1")
    for holder in ("first", "second"):
        holdings, relay = await new_holdings(store, holder)
        await holdings.take_over(frozenset({0, 1}), lambda: None)
        assert {held.partition for held in holdings.held.values() if held.halted_because is not None} == {0}, holder
        await holdings.take_over(frozenset(), lambda: None)
        assert not holdings.held
        await relay.drain(1.0)
