"""What a new holder reads of the last published events."""

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import UUID

import pytest

from consumers.takeover import TailTimeoutError, check_published
from ledger.broker.protocol import Record, TopicPartition
from ledger.messages.topics import Topics
from ledger.testing.broker import InMemoryBroker, InMemoryRecordReader
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord


async def test_a_last_event_that_retention_takes_while_it_is_read_ends_no_process() -> None:
    broker, topics = InMemoryBroker(), Topics()
    broker.create_topic(topics.events, 1)
    broker.append(topics.events, 0, b"owner", b"an event")

    class Slow(InMemoryRecordReader):
        async def poll(
            self, max_records: int, timeout_s: float, only: Collection[TopicPartition] | None = None
        ) -> list[Record]:
            broker.remove_before(topics.events, 0, 1)
            return list(await super().poll(max_records, timeout_s, only))

    reader = Slow(broker)
    await reader.start()
    store = InMemoryEventStore(InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime(2026, 1, 31, tzinfo=UTC)))
    with pytest.raises(TailTimeoutError):
        await check_published(reader, store, topics, {0: 1})
