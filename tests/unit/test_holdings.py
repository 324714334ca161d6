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


async def test_a_record_that_kills_stays_halted_when_its_partition_moves_to_another_holder() -> None:
    store = InMemoryEventStore(
        InMemoryRecord.initialised(UUID(int=1), PARTITIONS, lambda: datetime(2026, 1, 31, tzinfo=UTC))
    )
    for _ in range(TRYING_CLAIMS_MAX):
        claim = await store.claim(0, "killed")
        assert claim is not None
        await store.note_trying(0, claim.epoch, "example-app:1")
    broker = InMemoryBroker()
    topics = Topics("ledger")
    broker.create_topic(topics.events, PARTITIONS)
    tail_reader = broker.reader()
    await tail_reader.start()
    for holder in ("first", "second"):
        relay = Relay(store, broker.publisher, topics, Random(1))
        holdings = Holdings(
            holder=holder,
            store=store,
            relay=relay,
            tail_reader=tail_reader,
            topics=topics,
            partitions=PARTITIONS,
            clock=RecordClock(),
        )
        await holdings.take_over(frozenset({0, 1}), lambda: None)
        assert {held.partition for held in holdings.held.values() if held.halted_because is not None} == {0}, holder
        await holdings.take_over(frozenset(), lambda: None)
        assert not holdings.held
        await relay.drain(1.0)
