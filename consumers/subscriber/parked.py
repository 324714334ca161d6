"""Looking at and releasing what subscribers have parked, over Kafka alone (`ledger parked list|retry|discard`).

A marker is a record on the parked topic; the subscriber that holds the partition acts on it, at once if it runs and
otherwise when it starts. Nothing here waits for that: `list_parked` shows what came of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from consumers.subscriber.assignment import utc_now
from consumers.subscriber.errors import NotParkedError, ParkingUnavailableError, TopicsNotReadyError
from consumers.subscriber.kafka_parking_log import KafkaParkingLog
from consumers.subscriber.parking import Discard, ParkedOwner, ParkedPartition, Retry, decode_parking_record
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import BrokerUnavailableError
from ledger.broker.refusals import denied
from ledger.domain.event import RecordedEvent
from ledger.messages.topics import Topics

CLIENT_ID: Final = "ledger-parked"
READ_LIMIT_S: Final = 60.0
"""The longest that reading a parked topic may take."""

POLL_MS: Final = 500


@dataclass(frozen=True, slots=True)
class ParkedOwnerReport:
    """A parked owner of one group: its events in order, and why the first of them could not be handled.

    `releasing`: it was asked for, and the subscriber is at it or does not run.
    """

    group: str
    owner_id: str
    partition: int
    events: tuple[RecordedEvent, ...]
    error: str | None
    attempts: int
    parked_at: datetime
    releasing: bool


async def list_parked(
    kafka: KafkaServers | str, app: str, topics: Topics, *, group: str | None = None, owner_id: str | None = None
) -> list[ParkedOwnerReport]:
    """The parked owners of an app, by group, partition and age; of one group or owner only, if given.

    Raises:
        BrokerUnavailableError: Kafka did not answer within a limit.
        TopicsNotReadyError: the app has no parked topic.
        UnreadableParkingRecordError: something else was written to it.
    """
    return [
        ParkedOwnerReport(
            group=name,
            owner_id=owner.owner_id,
            partition=partition,
            events=tuple(owner.events[sequence].event for sequence in sorted(owner.events)),
            error=owner.error,
            attempts=owner.attempts,
            parked_at=owner.first.at,
            releasing=owner.releasing,
        )
        for (name, partition), parked in sorted((await _read(kafka, topics.parked(app))).items())
        if group in {None, name}
        for owner in sorted(parked.owners, key=_age)
        if owner_id in {None, owner.owner_id}
    ]


async def retry_parked(
    kafka: KafkaServers | str, app: str, topics: Topics, owner_id: str, *, group: str | None = None
) -> list[ParkedOwnerReport]:
    """Have the owner's parked events handled, in order; later events follow behind them. Where one fails again, the
    owner stays parked from there on.

    Returns:
        What is released: one report per group in which the owner is parked.

    Raises:
        NotParkedError: in none of them.
        And what `list_parked` raises, and ParkingUnavailableError.
    """
    reports = await _parked_reports(kafka, app, topics, owner_id, group)
    log = KafkaParkingLog(topics.parked(app), lambda: KafkaPublisher(kafka, CLIENT_ID))
    try:
        for report in reports:
            marker = Retry(report.group, owner_id, utc_now(), report.events[-1].sequence)
            await log.append(report.partition, marker)
    finally:
        await log.stop()
    return reports


async def discard_parked(
    kafka: KafkaServers | str,
    app: str,
    topics: Topics,
    owner_id: str,
    *,
    group: str | None = None,
    every_event: bool = False,
) -> list[ParkedOwnerReport]:
    """Drop the owner's first parked event, the one that could not be handled, and have the others handled in order.

    Args:
        kafka: Where, and how to connect; a text is `host:port[,host:port]`.
        app: Whose parked topic.
        topics: Names of topics.
        owner_id: Whose event.
        group: Only in this group.
        every_event: Drop all that are parked now, not only the first.

    Returns:
        What was parked before, one report per group.

    Raises:
        NotParkedError: the owner is not parked.
        And what `list_parked` raises, and ParkingUnavailableError.
    """
    reports = await _parked_reports(kafka, app, topics, owner_id, group)
    log = KafkaParkingLog(topics.parked(app), lambda: KafkaPublisher(kafka, CLIENT_ID))
    try:
        for report in reports:
            through = report.events[-1 if every_event else 0].sequence
            await log.append(report.partition, Discard(report.group, owner_id, utc_now(), through))
    finally:
        await log.stop()
    return reports


async def _parked_reports(
    kafka: KafkaServers | str, app: str, topics: Topics, owner_id: str, group: str | None
) -> list[ParkedOwnerReport]:
    reports = await list_parked(kafka, app, topics, group=group, owner_id=owner_id)
    if not reports:
        where = f"group {group!r}" if group else f"any group of {app}"
        raise NotParkedError(f"owner {owner_id!r} is not parked in {where}; see `ledger parked list`")
    return reports


async def _read(kafka: KafkaServers | str, topic: str) -> Mapping[tuple[str, int], ParkedPartition]:
    """The fold of the whole topic, by group and partition."""
    async with KafkaTopicAdmin(kafka, CLIENT_ID) as admin:
        partitions = (await admin.partition_counts()).get(topic)
    if partitions is None:
        raise TopicsNotReadyError(f"no topic {topic}: run `ledger topics sync`")
    folds: dict[tuple[str, int], ParkedPartition] = {}
    servers = KafkaServers.of(kafka)
    consumer = AIOKafkaConsumer(
        client_id=CLIENT_ID,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        **servers.client_settings(),
    )
    try:
        async with asyncio.timeout(READ_LIMIT_S):
            await consumer.start()
            places = [TopicPartition(topic, number) for number in range(partitions)]
            consumer.assign(places)
            ends = await consumer.end_offsets(places)
            while any([await consumer.position(place) < ends[place] for place in places]):
                records: Mapping[TopicPartition, list[Any]] = await consumer.getmany(timeout_ms=POLL_MS)
                for place, batch in records.items():
                    for record in batch:
                        _fold(folds, place.partition, record.value)
    except (KafkaError, TimeoutError) as error:
        want = denied(servers, error, "READ", f"topic {topic}")
        raise BrokerUnavailableError(want or f"{topic} could not be read from {kafka}: {error!r}") from error
    finally:
        await consumer.stop()
    return folds


def _fold(folds: dict[tuple[str, int], ParkedPartition], partition: int, value: bytes | None) -> None:
    record = decode_parking_record(value)
    if record is not None:
        folds.setdefault((record.group, partition), ParkedPartition(record.group)).apply(record)


def _age(owner: ParkedOwner) -> int:
    return owner.first.event.sequence


__all__ = ["ParkedOwnerReport", "ParkingUnavailableError", "discard_parked", "list_parked", "retry_parked"]
