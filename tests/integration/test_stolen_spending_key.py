"""A thief has the Kafka login of an app that may only spend, and publishes what he likes: no credit comes of it.

Two walls: Kafka lets him write one topic alone, and the ledger decides what lies there by that app's declaration.
"""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import TopicPartition
from ledger.domain.event import RecordedEvent
from ledger.event_store.postgres import PostgresEventStore
from ledger.messages.partitioning import partition_of
from tests.secured_kafka import OPERATOR
from tests.secured_ledger import LIMIT_S, PARTITIONS, SecuredLedger, ledger
from tests.till_operations import LARGEST_PURCHASE

__all__ = ["ledger"]
pytestmark = pytest.mark.integration

HAS = 100


@pytest.fixture(scope="module")
def consumer(ledger: SecuredLedger) -> Iterator[None]:
    """A ledger consumer, as it runs in production: settings in its environment, a principal of its own."""
    with ledger.process("ledger", "run", "consumer"):
        yield


@pytest.fixture
async def owner(ledger: SecuredLedger, consumer: None) -> str:
    """Somebody with credits."""
    owner_id = f"owner-{uuid.uuid4().hex[:12]}"
    async with ledger.client("example-app") as client:
        await client.submit("CREDIT_ADD", owner_id, "start", HAS, wait_s=LIMIT_S)
    return owner_id


@pytest.fixture
async def thief(ledger: SecuredLedger) -> AsyncIterator[AIOKafkaProducer]:
    """Any client that speaks Kafka, logged in as the till: no code of ours checks what it sends."""
    async with AIOKafkaProducer(**ledger.as_user("till").client_settings()) as producer:
        yield producer


def command_bytes(owner_id: str, operation: str, **fields: Any) -> bytes:
    command = {
        "command_id": str(uuid.uuid4()),
        "operation": operation,
        "owner_id": owner_id,
        "nonce": uuid.uuid4().hex,
        "issued_at": datetime.now(UTC).isoformat(),
    }
    return json.dumps(command | fields).encode()


async def events_of(ledger: SecuredLedger, owner_id: str) -> list[RecordedEvent]:
    store = PostgresEventStore(ledger.database_url, "test")
    try:
        events = await store.read_events(partition_of(owner_id.encode(), PARTITIONS), 0, 1_000_000)
    finally:
        await store.stop()
    return [event for event in events if event.owner_id == owner_id]


STOLEN = [
    pytest.param("CREDIT_ADD", {}, "OPERATION_NOT_ALLOWED", id="minting"),
    pytest.param("CREDIT_ADD", {"amount": 1_000_000}, "OPERATION_NOT_ALLOWED", id="minting a lot"),
    pytest.param("SIGNUP_CREDIT", {}, "OPERATION_NOT_ALLOWED", id="signing up again"),
    pytest.param("DAILY_REWARD", {}, "OPERATION_NOT_ALLOWED", id="taking the reward"),
    pytest.param("CREDIT_SPEND", {"amount": 1_000}, "INVALID_AMOUNT", id="a positive spend"),
    pytest.param("PURCHASE", {"amount": 40}, "INVALID_AMOUNT", id="a positive purchase"),
    pytest.param("PURCHASE", {"amount": -LARGEST_PURCHASE - 1}, "INVALID_AMOUNT", id="above the largest amount"),
    pytest.param("CREDIT_SPEND", {"amount": -(2**53)}, "INVALID_AMOUNT", id="above every amount"),
    pytest.param("CREDIT_SPEND", {"amount": -(2**63)}, "INVALID_AMOUNT", id="so much that it would turn round"),
    pytest.param("CREDIT_SPEND", {"amount": -HAS - 1}, "INSUFFICIENT_CREDITS", id="more than there is"),
    pytest.param("CONTENT_CREATION", {}, "UNKNOWN_OPERATION", id="another app's operation"),
    pytest.param("PURCHASE", {"credit_type": "gold"}, "UNKNOWN_CREDIT_TYPE", id="another kind of credits"),
]


@pytest.mark.parametrize(("operation", "fields", "reason"), STOLEN)
async def test_what_the_app_may_not_do_is_refused_and_recorded_as_its_doing(
    ledger: SecuredLedger, owner: str, thief: AIOKafkaProducer, operation: str, fields: dict[str, Any], reason: str
) -> None:
    await thief.send_and_wait(
        ledger.topics.commands("till"), command_bytes(owner, operation, **fields), key=owner.encode()
    )
    event = await _next_event(ledger, owner)
    assert (event.reason, event.app, event.amount) == (reason, "till", 0)
    assert await ledger.balance(owner) == HAS


async def test_a_message_that_claims_to_be_another_apps_is_not_believed(
    ledger: SecuredLedger, owner: str, thief: AIOKafkaProducer
) -> None:
    topic = ledger.topics.commands("till")
    claim = command_bytes(owner, "CREDIT_ADD", amount=500, app="example-app")
    await thief.send_and_wait(topic, claim, key=owner.encode(), headers=[("app", b"example-app")])
    # Behind it, on the same partition: when this is decided, that has been dealt with.
    await thief.send_and_wait(topic, command_bytes(owner, "PURCHASE", amount=-1), key=owner.encode())
    event = await _next_event(ledger, owner)
    assert (event.operation, event.balance_after) == ("PURCHASE", HAS - 1)
    listed = await ledger.cli("quarantine", "list", "--json")
    assert any(row["app"] == "till" and row["reason"] == "INVALID_FIELD" for row in listed.document), listed.out


async def test_what_the_app_may_do_the_thief_may_do(ledger: SecuredLedger, owner: str, thief: AIOKafkaProducer) -> None:
    """A stolen key spends, up to what its owner has: revoke it at the brokers."""
    await thief.send_and_wait(
        ledger.topics.commands("till"),
        command_bytes(owner, "PURCHASE", amount=-LARGEST_PURCHASE),
        key=owner.encode(),
    )
    event = await _next_event(ledger, owner)
    assert (event.reason, event.balance_after) == (None, HAS - LARGEST_PURCHASE)


@pytest.mark.parametrize("topic", ["ledger.commands.example-app", "ledger.events", "ledger.replays"])
async def test_the_topics_of_others_are_closed_to_him(
    ledger: SecuredLedger, owner: str, thief: AIOKafkaProducer, topic: str
) -> None:
    place = TopicPartition(topic, partition_of(owner.encode(), PARTITIONS))
    reader = KafkaRecordReader(ledger.as_user(OPERATOR))
    await reader.start()
    before = await reader.bounds([place])
    with pytest.raises(TopicAuthorizationFailedError):
        await thief.send_and_wait(topic, command_bytes(owner, "CREDIT_ADD", amount=500), key=owner.encode())
    assert await reader.bounds([place]) == before
    await reader.stop()
    assert await ledger.balance(owner) == HAS


async def _next_event(ledger: SecuredLedger, owner: str) -> RecordedEvent:
    """The event after the one that gave the owner credits."""
    async with asyncio.timeout(LIMIT_S):
        while len(found := await events_of(ledger, owner)) < 2:  # noqa: ASYNC110 - the record sets no event
            await asyncio.sleep(0.02)
    assert len(found) == 2, found
    return found[1]
