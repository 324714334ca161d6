"""Clients and the HTTP routes for commands on real Kafka and Postgres, with the real ledger consumer."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.messages.command_ids import new_command_id
from producers import (
    CommandRequest,
    DuplicateNonce,
    InsufficientCredits,
    LedgerClient,
    Outcome,
    OutcomeUnknown,
    SyncLedgerClient,
)
from producers.command_lookup import PostgresCommandLookup
from producers.command_status import command_status_router
from producers.http_answers import HttpAnswers
from producers.http_router import command_router
from tests.ledger_on_servers import LedgerOnServers, ledger_on_servers

pytestmark = pytest.mark.integration
APP = "example-app"
WAIT_S = 20.0


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        yield running


@pytest.fixture
def client(ledger: LedgerOnServers) -> LedgerClient:
    """Not open yet."""
    return LedgerClient(APP, ledger.bootstrap, topic_prefix=ledger.topics.prefix, outcome_wait_s=WAIT_S)


async def test_an_app_publishes_and_learns_what_became_of_it(ledger: LedgerOnServers, client: LedgerClient) -> None:
    async with ledger.running(), client:
        added = await client.submit("CREDIT_ADD", "ada", "top-up", 100)
        spent = await client.submit("CREDIT_SPEND", "ada", "order", -30, metadata={"order": 1})
        with pytest.raises(InsufficientCredits) as poor:
            await client.submit("CREDIT_SPEND", "ada", "order-2", -80)
        with pytest.raises(DuplicateNonce) as twice:
            await client.submit("CREDIT_ADD", "ada", "top-up", 100)
        again = await client.submit("CREDIT_ADD", "ada", "top-up", 100, command_id=added.event.command_id)
    assert (added.balance, spent.balance) == (100, 70)
    assert (poor.value.available, poor.value.needed) == (70, 80)
    assert twice.value.original == added.position
    assert again.event == added.event
    assert (added.replayed, again.replayed) == (False, True)


async def test_a_batch_is_decided_in_its_order(ledger: LedgerOnServers, client: LedgerClient) -> None:
    owners = [f"owner-{number % 7}" for number in range(700)]
    async with ledger.running(), client:
        outcomes = await client.submit_many(
            CommandRequest("CREDIT_ADD", owner, str(number), 1) for number, owner in enumerate(owners)
        )
    balances = [outcome.balance for outcome in outcomes if isinstance(outcome, Outcome)]
    assert balances == [1 + number // 7 for number in range(700)]


async def test_what_is_published_before_a_ledger_runs_is_decided_later(
    ledger: LedgerOnServers, client: LedgerClient
) -> None:
    async with client:
        with pytest.raises(OutcomeUnknown) as caught:
            await client.submit("CREDIT_ADD", "ada", "top-up", 5, wait_s=0.5)
        async with ledger.running():
            outcome = await client.submit("CREDIT_ADD", "ada", "top-up", 5, command_id=caught.value.command_id)
    assert outcome.balance == 5
    assert len(await ledger.events()) == 1


async def test_calls_made_one_after_another_get_rising_offsets(ledger: LedgerOnServers, client: LedgerClient) -> None:
    """Invariant 4 on the real Kafka, while another producer of the same app writes in between."""

    async def disturb() -> None:
        other = KafkaPublisher(ledger.bootstrap)
        await other.start()
        try:
            for number in range(200):
                await other.publish(
                    ledger.topics.commands(APP), number % ledger.partitions, [OutgoingRecord(b"x", b"no command")]
                )
        finally:
            await other.stop()

    async with client:
        disturbing = asyncio.create_task(disturb())
        calls = [
            asyncio.create_task(
                client.publish("CREDIT_ADD", f"owner-{number % 13}", str(number), metadata={"n": number})
            )
            for number in range(5_000)
        ]
        places = await asyncio.gather(*calls)
        await disturbing
    for partition in range(ledger.partitions):
        offsets = [place.offset for place in places if place.partition == partition]
        assert offsets == sorted(offsets)
        assert len(set(offsets)) == len(offsets)
    async with ledger.running():
        await ledger.until_events(5_000)
    at = {(event.partition, event.command_id) for event in await ledger.events()}
    assert at == {(place.partition, place.command_id) for place in places}


async def test_a_script_needs_no_asyncio(ledger: LedgerOnServers) -> None:
    def script() -> list[int]:
        with SyncLedgerClient(APP, ledger.bootstrap, topic_prefix=ledger.topics.prefix) as client:
            client.publish("CREDIT_ADD", "ada", "1", 5)
            return [client.submit("CREDIT_ADD", "ada", "2", 5).balance]

    async with ledger.running():
        assert await asyncio.to_thread(script) == [10]


@pytest.fixture
async def http(ledger: LedgerOnServers, client: LedgerClient) -> AsyncIterator[httpx.AsyncClient]:
    lookup = PostgresCommandLookup(ledger.database_url)
    app = FastAPI()
    app.include_router(command_router(HttpAnswers(client, lambda position, owner_id: None, 0.5)))
    app.include_router(command_status_router(APP, client.topics, lookup))
    transport = httpx.ASGITransport(app)
    async with client, lookup, httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_a_command_can_be_followed_from_received_to_its_end(
    ledger: LedgerOnServers, http: httpx.AsyncClient
) -> None:
    body = {"operation": "CREDIT_ADD", "owner_id": "a&b c/ü", "nonce": "n", "amount": 5}
    answer = await http.post("/ledger", json=body)
    assert answer.status_code == 202
    location = answer.headers["Location"]
    received = await http.get(location)
    assert (received.status_code, received.json()["state"]) == (200, "RECEIVED")
    poor = await http.post("/ledger", json={**body, "operation": "CREDIT_SPEND", "nonce": "m", "amount": -50})
    async with ledger.running():
        await ledger.until_events(2)
    completed = (await http.get(location)).json()
    assert completed["state"] == "COMPLETED"
    assert completed["balance"] == 5
    assert (completed["entry"]["amount"], completed["entry"]["owner_id"]) == (5, "a&b c/ü")
    failed = (await http.get(poor.headers["Location"])).json()
    assert failed == {
        "command_id": poor.json()["command_id"],
        "owner_id": "a&b c/ü",
        "state": "FAILED",
        "failed_in": "CHECKING_BALANCE",
        "reason": "INSUFFICIENT_CREDITS",
        "detail": "Insufficient credits: 5 available, 50 needed",
        "position": failed["position"],
        "balance": 5,
    }


async def test_what_nobody_sent_is_unknown_and_what_cannot_be_read_is_quarantined(
    ledger: LedgerOnServers, http: httpx.AsyncClient
) -> None:
    command_id = new_command_id()
    async with ledger.running():
        offset = await ledger.send_bytes(b"no command", b"ada")
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 1)
    partition = ledger.partition("ada")
    topic = ledger.topics.commands(APP)
    asked = {"owner_id": "ada", "at": f"{topic}:{partition}:{offset}"}
    answer = (await http.get(f"/commands/{command_id}", params=asked)).json()
    assert (answer["state"], answer["reason"]) == ("QUARANTINED", "NOT_JSON")
    unknown = await http.get(f"/commands/{command_id}", params={"owner_id": "ada"})
    assert unknown.status_code == 404
    elsewhere = {"owner_id": "ada", "at": f"{topic}:{partition}:{offset + 1}"}
    assert (await http.get(f"/commands/{command_id}", params=elsewhere)).json()["state"] == "RECEIVED"


async def test_a_question_that_cannot_be_read_is_422(ledger: LedgerOnServers, http: httpx.AsyncClient) -> None:
    topic = ledger.topics.commands(APP)
    unreadable: list[dict[str, str]] = [
        {},
        {"owner_id": ""},
        {"owner_id": "a\0"},
        {"owner_id": "a", "at": "x"},
        {"owner_id": "a", "at": "ledger.events:1:1"},
        {"owner_id": "a", "at": f"{topic}:1:99999999999999999999"},
        {"owner_id": "a", "at": f"{topic}:9999999999:1"},
        {"owner_id": "a", "at": f"{topic}:-1:1"},
    ]
    for asked in unreadable:
        answer = await http.get(f"/commands/{new_command_id()}", params=asked)
        assert (answer.status_code, bool(answer.json()["detail"])) == (422, True), asked
    assert (await http.get("/commands/no-uuid", params={"owner_id": "a"})).status_code == 422


async def test_postgres_away_is_503(kafka_bootstrap: str) -> None:
    lookup = PostgresCommandLookup("postgresql://nobody:nothing@127.0.0.1:1/none")
    client = LedgerClient(APP, kafka_bootstrap)
    app = FastAPI()
    app.include_router(command_status_router(APP, client.topics, lookup))
    transport = httpx.ASGITransport(app)
    async with lookup, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get(f"/commands/{new_command_id()}", params={"owner_id": "a"})
    assert answer.status_code == 503
    assert answer.json() == {"detail": "the command cannot be looked up: Postgres is away"}
    assert answer.headers["Retry-After"] == "1"
