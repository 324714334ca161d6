"""Topics of one test and events on them, for the tests of the subscriber kit."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer

from consumers.subscriber import EventChain, LedgerSubscriber, RecordedEvent, RetryPolicy
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.protocol import TopicSpec
from ledger.messages.event_codec import encode_event
from ledger.messages.topics import Topics

APP = "example-app"
PARTITIONS = 2
QUICK = RetryPolicy(attempts=3, attempt_limit_s=5, first_backoff_s=0.01)
WAIT_S = 30.0


@dataclass
class Bench:
    """The topics, a producer in the ledger's place, and a chain of events."""

    bootstrap: str
    topics: Topics
    producer: AIOKafkaProducer
    chain: EventChain

    async def publish(self, *events: RecordedEvent) -> None:
        """As the ledger does: key owner_id, the event's own partition."""
        for event in events:
            await self.publish_raw(event.partition, encode_event(event), key=event.owner_id.encode())

    async def publish_raw(
        self, partition: int, value: bytes | None, *, key: bytes = b"k", headers: Any = None, topic: str | None = None
    ) -> None:
        await self.producer.send_and_wait(
            topic or self.topics.events, value, key=key, partition=partition, headers=headers
        )

    def subscriber(self, **options: Any) -> LedgerSubscriber:
        chosen: dict[str, Any] = {
            "app": APP,
            "group": f"{self.topics.prefix}.content",
            "kafka_bootstrap_servers": self.bootstrap,
            "on_failure": "park",
            "start": "beginning",
            "topics": self.topics,
            "retries": QUICK,
        }
        return LedgerSubscriber(**chosen | options)


@asynccontextmanager
async def bench(bootstrap: str, partitions: int = PARTITIONS) -> AsyncIterator[Bench]:
    """Fresh topics under a prefix of their own."""
    topics = Topics(prefix=f"t{uuid.uuid4().hex[:12]}")
    await create_topics(bootstrap, {topics.events: partitions, topics.parked(APP): partitions})
    async with AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True) as producer:
        yield Bench(bootstrap, topics, producer, EventChain(partitions))


async def create_topics(bootstrap: str, sizes: dict[str, int]) -> None:
    """And return when brokers tell of them, which is a moment after they were made."""
    async with KafkaTopicAdmin(bootstrap) as admin:
        await admin.create([TopicSpec(name, partitions, 1, -1) for name, partitions in sizes.items()])


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition of another task."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110  nothing tells us
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"waited {WAIT_S:g} s for {what}") from None


class Seen:
    """A handler that keeps what it was given, and fails when told to."""

    def __init__(self) -> None:
        self.events: list[RecordedEvent] = []
        self.failing: set[str] = set()
        """Owners for whom it fails."""
        self.attempts = 0
        self.running = 0

    async def __call__(self, event: RecordedEvent) -> None:
        self.attempts += 1
        self.running += 1
        assert self.running == 1, "one handler at a time"
        try:
            await asyncio.sleep(0)
            if event.owner_id in self.failing:
                raise RuntimeError(f"no luck with {event.owner_id}")
            self.events.append(event)
        finally:
            self.running -= 1

    def of(self, owner_id: str) -> list[int]:
        return [event.sequence for event in self.events if event.owner_id == owner_id]

    @property
    def positions(self) -> list[tuple[int, int]]:
        return sorted(event.position for event in self.events)
