"""What the relay says to the record about what it has published."""

import asyncio
from datetime import UTC, datetime
from random import Random
from uuid import UUID

from consumers.relay import NOTE_IDLE_S, Relay
from ledger.event_store.protocol import StoreUnavailableError
from ledger.messages.topics import Topics
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.contract.hand import Hand
from tests.simulation import virtual_time


def test_a_mark_that_postgres_did_not_take_is_noted_later_without_another_command() -> None:
    refusals = 3

    async def step(what: str) -> None:
        nonlocal refusals
        await asyncio.sleep(0)
        if what == "note_published" and refusals:
            refusals -= 1
            raise StoreUnavailableError("away")

    async def main() -> int:
        record = InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime(2026, 1, 31, tzinfo=UTC))
        hand = Hand(InMemoryEventStore(record))
        claim = await hand.claim(0)
        hand.entry(0)
        await hand.write()
        broker, topics = InMemoryBroker(), Topics()
        broker.create_topic(topics.events, 1)
        relay = Relay(InMemoryEventStore(record, step), broker.publisher, topics, Random(1))
        relay.begin(0, claim.epoch, 0, 1)
        await asyncio.sleep(5 * NOTE_IDLE_S)
        assert [one.offset for one in broker.records(topics.events, 0)] == [0]
        return record.heads[0].published_sequence

    assert virtual_time.run(main()) == 1
    assert refusals == 0
