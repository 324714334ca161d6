"""Puts commands into Kafka before a measurement."""

import asyncio
from typing import Final

from benchmarks.commands import APP, encoded
from benchmarks.fresh_ledger import FreshLedger
from benchmarks.sizes import PARTITIONS
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command

CHUNK_RECORDS: Final = 500


async def publish_commands(ledger: FreshLedger, commands: list[Command]) -> None:
    """All of them are acknowledged when this returns; in order within each partition."""
    publisher = KafkaPublisher(ledger.kafka)
    await publisher.start()
    try:
        await asyncio.gather(
            *(
                _publish_to(publisher, ledger, partition, records)
                for partition, records in encoded(commands, PARTITIONS).items()
            )
        )
    finally:
        await publisher.stop()


async def _publish_to(
    publisher: KafkaPublisher, ledger: FreshLedger, partition: int, records: list[OutgoingRecord]
) -> None:
    topic = ledger.topics.commands(APP)
    for begin in range(0, len(records), CHUNK_RECORDS):
        await publisher.publish(topic, partition, records[begin : begin + CHUNK_RECORDS])
