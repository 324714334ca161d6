"""What the relay says to the record about what it has published."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random
from uuid import UUID

import pytest

from consumers.relay import NOTE_IDLE_S, Relay
from ledger.broker.protocol import OutgoingRecord
from ledger.event_store.protocol import StoreUnavailableError
from ledger.messages.topics import Topics
from ledger.testing.broker import InMemoryBroker, InMemoryPublisher
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


def test_whoever_waits_for_a_replay_does_not_wait_for_a_whole_backlog_of_events(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a flood of replays takes no more than its share of the publications either."""
    monkeypatch.setattr("consumers.relay.BATCH_EVENTS_MAX", 2)
    monkeypatch.setattr("consumers.relay.REPLAYS_BATCH_MAX", 1)
    published: list[tuple[str, int]] = []

    async def main() -> None:
        record = InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime(2026, 1, 31, tzinfo=UTC))
        hand = Hand(InMemoryEventStore(record))
        claim = await hand.claim(0)
        for _ in range(8):
            hand.entry(0)
        await hand.write()
        store, broker, topics = InMemoryEventStore(record), InMemoryBroker(), Topics()
        broker.create_topic(topics.events, 1)
        broker.create_topic(topics.replays, 1)

        class Watched(InMemoryPublisher):
            async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
                published.append((topic, len(records)))
                return await super().publish(topic, partition, records)

        relay = Relay(store, lambda: Watched(broker), topics, Random(1))
        relay.begin(0, claim.epoch, 0, 8)
        relay.add(0, [], await store.read_events(0, 0, 6))
        assert await relay.drain(60)
        one_of_each = [(topics.events, 2), (topics.replays, 1)]
        assert published == 4 * one_of_each + 2 * [(topics.replays, 1)]

    virtual_time.run(main())
