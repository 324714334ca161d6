"""`ledger verify` compares `ledger.events` with the record: each way in which they can differ is named."""

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import OutgoingRecord, TopicPartition, TopicSpec
from ledger.domain.event import RecordedEvent
from ledger.event_store.verification_checks import Check, Violation
from ledger.messages.event_codec import encode_event
from service.verification.topic import TopicAuditor
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.servers import fresh_database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

OWNER = "ada"
EVENTS = 5


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[LedgerOnServers]:
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url) as made,
    ):
        async with made.running():
            for _ in range(EVENTS):
                await made.send(command(OWNER, "CREDIT_ADD", 10, metadata='{"kept": [1, 2]}'))
            await made.until_events(EVENTS)
            await made.until_published()
        yield made


Records = list[OutgoingRecord]
Change = Callable[[list[RecordedEvent]], Records]


def as_published(events: list[RecordedEvent]) -> Records:
    return [OutgoingRecord(event.owner_id.encode(), encode_event(event)) for event in events]


def changed(event: RecordedEvent, **changes: object) -> RecordedEvent:
    return msgspec.structs.replace(event, **changes)


async def compared(ledger: LedgerOnServers, change: Change) -> int:
    """Write what the change makes of the genuine records to a topic of its own, and compare that with the record."""
    topic = f"{ledger.topics.prefix}.copy-{uuid4().hex[:8]}"
    await ledger.admin.create([TopicSpec(topic, ledger.partitions, 1, -1)])
    partition = ledger.partition(OWNER)
    records = change(await ledger.events())
    if records:
        await ledger.publisher.publish(topic, partition, records)
    reader = KafkaRecordReader(ledger.bootstrap)
    await reader.start()
    connection = await asyncpg.connect(ledger.database_url)
    try:
        bounds = await reader.bounds([TopicPartition(topic, number) for number in range(ledger.partitions)])
        heads = {
            row["partition"]: row["sequence"]
            for row in await connection.fetch("SELECT partition, sequence FROM ledger.partition_head")
        }
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return await TopicAuditor(connection, reader, topic).verify(
                {one.partition: bound for one, bound in bounds.items()}, heads, heads, lambda done, total: None
            )
    finally:
        await reader.stop()
        await connection.close()


async def test_the_events_as_they_were_published_are_right(ledger: LedgerOnServers) -> None:
    assert await compared(ledger, as_published) == EVENTS


async def test_events_published_again_are_right(ledger: LedgerOnServers) -> None:
    assert await compared(ledger, lambda events: as_published(events[:4] + events[1:])) == 8


DIFFERENCES: dict[str, tuple[Change, str, str]] = {
    "an event in the middle is missing": (
        lambda events: as_published(events[:2] + events[3:]),
        ":3",
        "was published before it",
    ),
    "the last event is missing": (lambda events: as_published(events[:-1]), ":5", "does not hold it"),
    "nothing was published": (lambda events: [], ":1", "does not hold it"),
    "events are out of order": (
        lambda events: as_published([events[0], events[2], events[1], *events[3:]]),
        ":2",
        "was published before it",
    ),
    "an event that is not committed": (
        lambda events: as_published([*events, changed(events[-1], sequence=EVENTS + 1)]),
        ":6",
        "the record ends at",
    ),
    "another amount": (
        lambda events: as_published([*events[:2], changed(events[2], amount=11), *events[3:]]),
        ":3",
        "amount is 11, recorded is 10",
    ),
    "another hash": (
        lambda events: as_published([changed(events[0], hash="00" * 32), *events[1:]]),
        ":1",
        "hash is",
    ),
    "other metadata": (
        lambda events: as_published([changed(events[0], metadata=msgspec.Raw(b'{"kept": [1]}')), *events[1:]]),
        ":1",
        "metadata is",
    ),
    "an event told otherwise the second time": (
        lambda events: as_published([*events, changed(events[1], balance_after=99)]),
        ":2",
        "balance_after is 99",
    ),
    "another key": (
        lambda events: [OutgoingRecord(b"somebody", encode_event(events[0])), *as_published(events[1:])],
        ":1",
        "not the owner's id",
    ),
    "an event of another partition": (
        lambda events: as_published([changed(events[0], partition=99), *events[1:]]),
        ":0",
        "an event of another partition",
    ),
    "something that is no event": (lambda events: [OutgoingRecord(b"k", b"not json")], ":0", "not an event"),
}


@pytest.mark.parametrize("name", DIFFERENCES)
async def test_a_difference_between_topic_and_record_is_named(ledger: LedgerOnServers, name: str) -> None:
    change, place, says = DIFFERENCES[name]
    with pytest.raises(Violation) as raised:
        await compared(ledger, change)
    found = raised.value
    assert (found.check, found.where.endswith(place), says in found.what) == (Check.PUBLISHED, True, True), str(found)
