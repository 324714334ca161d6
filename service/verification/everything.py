"""One verification: the record, the read models against it, the topic against it."""

from collections.abc import Callable
from dataclasses import dataclass

import asyncpg

from ledger.broker.protocol import RecordReader, TopicPartition
from ledger.event_store.verification import Verified, read_heads, verify_record
from ledger.messages.topics import Topics
from service.verification.read_models import read_model_witnesses
from service.verification.topic import TopicAuditor

Progress = Callable[[str, int, int], None]
"""Takes what is being compared, how much of it was, and of how much."""


@dataclass(frozen=True, slots=True)
class Everything:
    """What was found in order."""

    record: Verified
    topic_records: int | None
    """Records of `ledger.events`; None when Kafka was not asked."""


async def verify_everything(
    connection: asyncpg.Connection,
    reader: RecordReader | None,
    topics: Topics,
    progress: Progress,
) -> Everything:
    """Check everything in one snapshot. `reader` is a started one, or None to leave Kafka out.

    Raises:
        Violation: the first disagreement.
        RecordMismatchError: there is no ledger in this database.
        BrokerUnavailableError, TopicSilentError: Kafka is away.
    """
    # The order matters while the ledger goes on. What is noted as published now must lie within the bounds that are
    # asked for next; and what lies within these must be in the snapshot that is taken last.
    published = {partition: head.published_sequence for partition, head in (await read_heads(connection)).items()}
    bounds = {}
    if reader is not None:
        partitions = [TopicPartition(topics.events, partition) for partition in published]
        bounds = {one.partition: bound for one, bound in (await reader.bounds(partitions)).items()}
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        witnesses = await read_model_witnesses(connection)
        record = await verify_record(connection, lambda done, total: progress("events", done, total), witnesses)
        if reader is None:
            return Everything(record, None)
        heads = {partition: head.sequence for partition, head in record.heads.items()}
        count = await TopicAuditor(connection, reader, topics.events).verify(
            bounds, published, heads, lambda done, total: progress(f"records of {topics.events}", done, total)
        )
    return Everything(record, count)
