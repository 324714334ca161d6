"""The HTTP routes for commands, pinned against DESIGN.md (HTTP)."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from fastapi import FastAPI

from apps.example_app.operations import ExampleAppOperations
from ledger.domain.position import Position
from ledger.event_store.protocol import StoreUnavailableError
from ledger.messages.command_ids import derived_command_id
from ledger.operations import Registry
from ledger.testing.broker import InMemoryBroker
from producers import LedgerClient
from producers.http_answers import HttpAnswers
from producers.http_router import BODY_BYTES_MAX, command_router
from producers.record_probe import RecordProbe
from tests.answering_ledger import TOPICS, AnsweringLedger, Faults, InMemoryConnection, answering_ledger

APP = "example-app"
WAIT_S = 0.3
RULES = ExampleAppOperations.operations


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def fake(faults: Faults) -> AsyncIterator[AnsweringLedger]:
    async with answering_ledger(Registry([ExampleAppOperations]), InMemoryBroker(faults.step)) as ledger:
        yield ledger


@pytest.fixture
def noted() -> list[Position]:
    return []


@pytest.fixture
async def http(fake: AnsweringLedger, noted: list[Position]) -> AsyncIterator[httpx.AsyncClient]:
    client = LedgerClient(APP, connection=InMemoryConnection(fake.broker))
    app = FastAPI()
    app.include_router(
        command_router(HttpAnswers(client, lambda position, owner_id: noted.append(position), WAIT_S, RULES))
    )
    async with client, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as opened:
        await client.follow_outcomes()
        yield opened


def sent(fake: AnsweringLedger) -> int:
    return sum(len(fake.broker.records(TOPICS.commands(APP), partition)) for partition in range(3))


ADD = {"operation": "CREDIT_ADD", "owner_id": "alice", "nonce": "top-up", "amount": 100}


@pytest.mark.parametrize("path", ["/ledger", "/ledger/entry"])
async def test_an_accepted_command_answers_with_its_entry_and_the_balance(
    http: httpx.AsyncClient, noted: list[Position], path: str
) -> None:
    response = await http.post(path, json=ADD)
    assert response.status_code == 200
    body = response.json()
    assert set(body) == {"entry", "balance"}
    entry = body["entry"]
    assert set(entry) == {
        "id",
        "operation",
        "owner_id",
        "amount",
        "nonce",
        "created_at",
        "updated_at",
        "position",
        "command_id",
    }
    assert (entry["operation"], entry["owner_id"], entry["amount"], entry["nonce"]) == (
        "CREDIT_ADD",
        "alice",
        100,
        "top-up",
    )
    assert body["balance"] == 100
    position = Position.parse(entry["position"])
    assert entry["id"] == position.partition * 2**40 + position.sequence
    assert entry["created_at"] == entry["updated_at"]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(entry["created_at"])).total_seconds()) < 60
    assert response.headers["Ledger-Position"] == entry["position"]
    assert noted == [position]


async def test_the_default_amount_counts_when_none_is_given(http: httpx.AsyncClient) -> None:
    response = await http.post("/ledger", json={"operation": "SIGNUP_CREDIT", "owner_id": "a", "nonce": "n"})
    assert response.json()["balance"] == 3
    response = await http.post(
        "/ledger", json={"operation": "DAILY_REWARD", "owner_id": "a", "nonce": "m", "amount": None}
    )
    assert response.json()["balance"] == 4


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        ({"nonce": "top-up"}, "Transaction with nonce top-up already exists"),
        ({"operation": "CREDIT_SPNED"}, "Invalid operation: CREDIT_SPNED"),
        ({"operation": "CREDIT_SPEND", "amount": -250}, "Insufficient credits: 100 available, 250 needed"),
        ({"operation": "CREDIT_SPEND", "amount": 1000}, "Invalid amount: must be negative, got 1000"),
        ({"amount": 0}, "Invalid amount: must be positive, got 0"),
        ({"amount": 2**53}, f"Invalid amount: must be at most {2**53 - 1} in absolute value, got {2**53}"),
        ({"amount": 2**53 - 1}, f"Balance overflow: 100 + {2**53 - 1} exceeds {2**53 - 1}"),
        ({"operation": "SIGNUP_CREDIT", "amount": 4}, "Invalid amount: must be 3, got 4"),
        ({"credit_type": "gold"}, "Unknown credit type: gold"),
        ({"not_after": "2020-01-01T00:00:00Z"}, "Expired: not after 2020-01-01T00:00:00+00:00"),
    ],
)
async def test_a_refusal_is_400_with_its_text(
    http: httpx.AsyncClient, noted: list[Position], command: dict[str, object], detail: str
) -> None:
    await http.post("/ledger", json=ADD)
    response = await http.post("/ledger", json={**ADD, "nonce": "other", **command})
    assert response.status_code == 400
    assert response.json() == {"detail": detail}
    assert str(noted[-1]) == response.headers["Ledger-Position"]
    assert len(noted) == 2


BAD_FIELDS: list[dict[str, object]] = [
    {"amount": "5"},
    {"amount": 5.0},
    {"amount": True},
    {"amount": 2**63},
    {"amuont": 5},
    {"owner_id": ""},
    {"owner_id": "x" * 129},
    {"owner_id": "a\0b"},
    {"owner_id": 5},
    {"nonce": ""},
    {"nonce": "x" * 129},
    {"operation": ""},
    {"metadata": []},
    {"metadata": {"x": "y" * 4096}},
    {"not_after": "tomorrow"},
    {"not_after": "2026-01-31T12:00:00"},
]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"operation": "CREDIT_ADD", "owner_id": "a"}',
        *(json.dumps({**ADD, **change}).encode() for change in BAD_FIELDS),
        b'{"operation": "CREDIT_ADD", "owner_id": "\\ud800", "nonce": "n"}',
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "amount": NaN}',
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "amount": 1e400}',
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "metadata": {"x": NaN}}',
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "metadata": {"x": 1e400}}',
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "metadata": '
        + b'{"x":' * 5000
        + b"1"
        + b"}" * 5001,
        b'{"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n", "metadata": ' + b'{"x":' * 200 + b"1" + b"}" * 201,
    ],
)
@pytest.mark.parametrize("path", ["/ledger", "/ledger/entries"])
async def test_a_malformed_body_is_422_and_nothing_is_sent(
    http: httpx.AsyncClient, fake: AnsweringLedger, path: str, body: bytes
) -> None:
    if path == "/ledger/entries":
        body = b'{"entries": [' + body + b"]}" if body not in (b"", b"[]") else b'{"entries": 5}'
    response = await http.post(path, content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 422, response.text
    assert response.json()["detail"]
    assert sent(fake) == 0


async def test_metadata_and_credit_type_reach_the_ledger(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    await http.post("/ledger", json={**ADD, "metadata": {"b": 1, "a": [None, 0.5, "ü"]}, "credit_type": "credits"})
    assert fake.commands[0].metadata == '{"b":1,"a":[null,0.5,"ü"]}'


async def test_a_body_beyond_the_limit_is_413(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    body = b'{"operation": "' + b"x" * BODY_BYTES_MAX + b'"}'
    response = await http.post("/ledger", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == 413
    assert sent(fake) == 0


# Idempotency-Key


async def test_without_a_key_every_request_is_a_new_command(http: httpx.AsyncClient) -> None:
    first = await http.post("/ledger", json=ADD)
    again = await http.post("/ledger", json=ADD)
    assert first.status_code == 200
    assert again.status_code == 400
    assert again.json() == {"detail": "Transaction with nonce top-up already exists"}


async def test_the_same_key_is_answered_as_the_first_time(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await http.post("/ledger", json=ADD, headers=headers)
    await http.post("/ledger", json={**ADD, "nonce": "between"})
    again = await http.post("/ledger", json=ADD, headers=headers)
    assert again.status_code == 200
    assert again.json() == first.json()
    assert first.json()["entry"]["command_id"] == str(derived_command_id(APP, "alice", "k1"))
    assert len(fake.events) == 2


async def test_the_same_key_repeats_a_refusal_too(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    spend = {"operation": "CREDIT_SPEND", "owner_id": "alice", "nonce": "order", "amount": -5}
    first = await http.post("/ledger", json=spend, headers=headers)
    await http.post("/ledger", json=ADD)
    again = await http.post("/ledger", json=spend, headers=headers)
    assert (first.status_code, again.status_code) == (400, 400)
    assert again.json() == first.json() == {"detail": "Insufficient credits: 0 available, 5 needed"}
    retried = await http.post("/ledger", json=spend, headers={"Idempotency-Key": "k2"})
    assert retried.status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 101},
        {"amount": None},
        {"nonce": "other"},
        {"operation": "DAILY_REWARD", "amount": 1},
        {"metadata": {"x": 1}},
        {"credit_type": "gold"},
    ],
)
async def test_the_same_key_with_another_body_is_422(
    http: httpx.AsyncClient, fake: AnsweringLedger, change: dict[str, object]
) -> None:
    headers = {"Idempotency-Key": "k1"}
    await http.post("/ledger", json=ADD, headers=headers)
    response = await http.post("/ledger", json={**ADD, **change}, headers=headers)
    assert response.status_code == 422
    assert "Idempotency-Key was used for another request" in response.json()["detail"]
    assert len(fake.events) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"operation": "CREDIT_SPEND", "amount": -5}, {"operation": "CREDIT_SPEND", "amount": -6}),
        ({"operation": "CREDIT_SPEND", "amount": 5}, {"operation": "CREDIT_SPEND", "amount": -5}),
    ],
)
async def test_the_amount_of_a_refused_request_is_compared_too(
    http: httpx.AsyncClient, first: dict[str, object], second: dict[str, object]
) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert (await http.post("/ledger", json={**ADD, **first}, headers=headers)).status_code == 400
    assert (await http.post("/ledger", json={**ADD, **second}, headers=headers)).status_code == 422


async def test_the_default_amount_and_none_are_the_same_body(http: httpx.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k1"}
    body = {"operation": "CREDIT_ADD", "owner_id": "a", "nonce": "n"}
    assert (await http.post("/ledger", json=body, headers=headers)).status_code == 200
    assert (await http.post("/ledger", json={**body, "amount": 10}, headers=headers)).status_code == 200


async def test_a_key_belongs_to_its_owner(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    headers = {"Idempotency-Key": "k1"}
    for owner in ("alice", "bob"):
        assert (await http.post("/ledger", json={**ADD, "owner_id": owner}, headers=headers)).status_code == 200
    assert len(fake.events) == 2


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_out_of_its_limits_is_422(http: httpx.AsyncClient, fake: AnsweringLedger, key: str) -> None:
    response = await http.post("/ledger", json=ADD, headers={"Idempotency-Key": key})
    assert response.status_code == 422
    assert sent(fake) == 0


# batches


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_batch_answers_each_command_in_order(
    http: httpx.AsyncClient, noted: list[Position], wrapped: bool
) -> None:
    commands = [
        ADD,
        {"operation": "CREDIT_SPEND", "owner_id": "alice", "nonce": "a", "amount": -30},
        {"operation": "CREDIT_SPEND", "owner_id": "alice", "nonce": "b", "amount": -80},
        {**ADD, "owner_id": "bob"},
    ]
    response = await http.post("/ledger/entries", json={"entries": commands} if wrapped else commands)
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["status"] for result in results] == [200, 200, 400, 200]
    assert [result["body"].get("balance") for result in results] == [100, 70, None, 100]
    assert results[2]["body"] == {"detail": "Insufficient credits: 70 available, 80 needed"}
    assert set(results[0]["body"]) == {"entry", "balance"}
    assert len(noted) == 4


async def test_a_thousand_in_a_batch_and_no_more(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    commands = [{**ADD, "owner_id": f"u{n % 50}", "nonce": str(n), "amount": 1} for n in range(1001)]
    assert (await http.post("/ledger/entries", json={"entries": commands})).status_code == 422
    assert sent(fake) == 0
    response = await http.post("/ledger/entries", json={"entries": commands[:1000]}, timeout=30)
    assert [result["status"] for result in response.json()["results"]] == [200] * 1000
    balances = [r["body"]["balance"] for r in response.json()["results"] if r["body"]["entry"]["owner_id"] == "u7"]
    assert balances == list(range(1, 21))


async def test_a_batch_with_a_key_is_answered_as_the_first_time(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    commands = [{**ADD, "nonce": str(n)} for n in range(3)]
    first = await http.post("/ledger/entries", json={"entries": commands}, headers={"Idempotency-Key": "k"})
    again = await http.post("/ledger/entries", json={"entries": commands}, headers={"Idempotency-Key": "k"})
    assert first.json() == again.json()
    assert len(fake.events) == 3


async def test_an_empty_batch_has_no_results(http: httpx.AsyncClient) -> None:
    response = await http.post("/ledger/entries", json={"entries": []})
    assert (response.status_code, response.json()) == (200, {"results": []})


# no answer, and no Kafka


async def test_no_outcome_in_time_is_202_with_a_place_to_ask(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    fake.answering.clear()
    response = await http.post("/ledger", json={**ADD, "owner_id": "a&b c/ü"})
    assert response.status_code == 202
    location = httpx.URL(response.headers["Location"])
    command_id = response.json()["command_id"]
    assert response.json() == {"command_id": command_id, "state": "RECEIVED", "location": response.headers["Location"]}
    assert location.path == f"/commands/{command_id}"
    assert location.params["owner_id"] == "a&b c/ü"
    topic, partition, offset = location.params["at"].split(":")
    record = fake.broker.records(topic, int(partition))[int(offset)]
    assert command_id.encode() in (record.value or b"")


async def test_a_retry_with_the_key_after_202_gets_the_outcome(http: httpx.AsyncClient, fake: AnsweringLedger) -> None:
    fake.answering.clear()
    headers = {"Idempotency-Key": "k"}
    assert (await http.post("/ledger", json=ADD, headers=headers)).status_code == 202
    fake.answering.set()
    response = await http.post("/ledger", json=ADD, headers=headers)
    assert (response.status_code, response.json()["balance"]) == (200, 100)
    assert len(fake.events) == 1


async def test_kafka_away_is_503_and_says_that_nothing_was_sent(fake: AnsweringLedger, faults: Faults) -> None:
    faults.failing["start"] = 1_000_000
    client = LedgerClient(APP, connection=InMemoryConnection(fake.broker))
    app = FastAPI()
    app.include_router(command_router(HttpAnswers(client, lambda position, owner_id: None, WAIT_S)))
    async with client, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        for path, body in (("/ledger", ADD), ("/ledger/entries", [ADD])):
            response = await http.post(path, json=body)
            answer = response.json() if path == "/ledger" else response.json()["results"][0]["body"]
            assert answer == {"detail": "the command was not published: Kafka is away"}
            if path == "/ledger":
                assert response.status_code == 503
                assert int(response.headers["Retry-After"]) >= 1
    assert sent(fake) == 0


async def test_postgres_away_is_503_and_nothing_is_sent(fake: AnsweringLedger) -> None:
    away: list[str] = ["the server is shutting down"]

    async def ask() -> None:
        if away:
            raise StoreUnavailableError(away[0])

    client = LedgerClient(APP, connection=InMemoryConnection(fake.broker))
    app = FastAPI()
    probe = RecordProbe(ask)
    app.include_router(command_router(HttpAnswers(client, lambda *_: None, WAIT_S, RULES, probe.trouble)))
    async with client, httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        await client.follow_outcomes()
        response = await http.post("/ledger", json=ADD)
        assert response.status_code == 503
        assert response.json() == {"detail": "the command was not published: Postgres is away"}
        assert response.headers["Retry-After"] == "1"
        assert sent(fake) == 0
        away.clear()
        async with asyncio.timeout(10):
            while (await http.post("/ledger", json=ADD)).status_code != 200:  # noqa: ASYNC110  # the answer ages
                await asyncio.sleep(0.02)
    assert sent(fake) == 1


async def test_kafka_that_does_not_acknowledge_is_503_and_says_that_it_is_in_doubt(
    http: httpx.AsyncClient, faults: Faults
) -> None:
    faults.failing["publish"] = 1_000_000
    response = await http.post("/ledger", json=ADD)
    assert response.status_code == 503
    assert "may or may not be carried out" in response.json()["detail"]


# the documentation


async def test_the_routes_explain_themselves(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi.json")).json()
    assert {"/ledger", "/ledger/entry", "/ledger/entries"} <= set(document["paths"])
    for path in ("/ledger", "/ledger/entry"):
        operation = document["paths"][path]["post"]
        assert set(operation["responses"]) == {"200", "202", "400", "413", "422", "503"}
        assert operation["description"]
        assert "examples" in operation["responses"]["400"]["content"]["application/json"]
    assert document["components"]["schemas"]["EntryRequest"]["examples"]
    for path in ("/docs", "/redoc"):
        assert (await http.get(path)).status_code == 200
