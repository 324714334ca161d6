"""Watches `ledger.events` from outside, past all proxies: when does each partition go on after a fault?"""

import asyncio
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import msgspec

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import BrokerUnavailableError, TopicPartition

POLL_RECORDS_MAX: Final = 2_000
POLL_WAIT_S: Final = 0.2
ASK_PAUSE_S: Final = 0.05


class _Seen(msgspec.Struct):
    """The part of an event that matters here."""

    sequence: int
    occurred_at: datetime


@dataclass(slots=True)
class PartitionSeen:
    """What was seen of one partition."""

    sequence: int = 0
    occurred_at_s: float = 0.0
    """When the newest event was decided, by Postgres's clock (this machine's): seconds since 1970."""
    seen_at_s: float = field(default_factory=time.monotonic)
    standstill_s: float = 0.0
    """The longest time between two new events."""


class EventsObserver:
    """Runs until it is cancelled."""

    def __init__(self, kafka: str, topic: str, partitions: int) -> None:
        self._kafka = kafka
        self._places = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._decoder = msgspec.json.Decoder(_Seen)
        self._standing_counts = False
        self.partitions = [PartitionSeen() for _ in range(partitions)]
        self.events = 0

    def count_standstills(self) -> None:
        """From now on a partition without new events stands still; before, nothing was sent."""
        self._standing_counts = True
        for seen in self.partitions:
            seen.seen_at_s = time.monotonic()

    def stop_counting_standstills(self) -> None:
        """Nothing is sent any more."""
        self._standing_counts = False

    async def run(self) -> None:
        """Follow the topic from its begin."""
        positions = dict.fromkeys(self._places, 0)
        while True:
            reader = KafkaRecordReader(self._kafka, client_id="fault-run-observer")
            try:
                await reader.start()
                reader.assign(positions)
                while True:
                    for record in await reader.poll(POLL_RECORDS_MAX, POLL_WAIT_S):
                        positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                        self._see(record.partition, record.value or b"")
            except BrokerUnavailableError:
                await asyncio.sleep(ASK_PAUSE_S)
            finally:
                await reader.stop()

    def _see(self, partition: int, value: bytes) -> None:
        event = self._decoder.decode(value)
        seen = self.partitions[partition]
        if event.sequence <= seen.sequence:
            return  # published once more
        now = time.monotonic()
        if self._standing_counts:
            seen.standstill_s = max(seen.standstill_s, now - seen.seen_at_s)
        seen.seen_at_s = now
        seen.sequence = event.sequence
        seen.occurred_at_s = event.occurred_at.timestamp()
        self.events += 1

    async def decided_again(
        self, partitions: Collection[int], since_s: float, limit_s: float
    ) -> Mapping[int, float | None]:
        """For each partition, how many seconds after `since_s` (since 1970) an event was seen that was decided after
        it; None when there was none within the limit."""
        took: dict[int, float | None] = dict.fromkeys(partitions)
        while None in took.values() and time.time() - since_s < limit_s:
            for partition, known in took.items():
                if known is None and self.partitions[partition].occurred_at_s > since_s:
                    took[partition] = time.time() - since_s
            await asyncio.sleep(ASK_PAUSE_S)
        return took
