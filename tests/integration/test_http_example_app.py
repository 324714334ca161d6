"""The example app's service on real Kafka and Postgres, with the real ledger behind it, against DESIGN (HTTP)."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from apps.example_app.application import create_app
from apps.example_app.operations import ExampleAppOperations
from producers.doors import DoorPolicy
from projections.registry import READ_MODELS
from projections.versions import install
from tests.ledger_on_servers import WAIT_S, ledger_on_servers
from tests.projections_on_servers import projecting
from tests.servers import fresh_database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The running service, with a consumer and a projector behind it: one for all, as each test has its owners."""
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url) as ledger,
    ):
        await install(database_url, READ_MODELS)
        service = create_app(
            app="example-app",
            rules={"example-app": ExampleAppOperations.operations},
            kafka_bootstrap_servers=kafka_bootstrap,
            reader_database_url=database_url,
            app_database_url=database_url,
            topic_prefix=ledger.topics.prefix,
            outcome_wait_s=WAIT_S,
            read_wait_s=WAIT_S,
            doors=DoorPolicy("auto", rate_per_s=1_000, burst=5_000),
            under_way_max=1_000,
        )
        async with (
            ledger.running(),
            projecting(ledger),
            service.router.lifespan_context(service),
            httpx.AsyncClient(transport=httpx.ASGITransport(service), base_url="http://test", timeout=60) as client,
        ):
            yield client


@pytest.fixture
def ada() -> str:
    """An owner of this test alone."""
    return f"ada-{uuid4()}"


async def balance(http: httpx.AsyncClient, owner_id: str) -> int:
    answer = await http.get(f"/balance/{owner_id}")
    assert answer.status_code == 200
    found: int = answer.json()["balance"]
    return found


async def until_found(http: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """Wait until the subscriber has seen what makes it visible."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while (answer := await http.get(path)).status_code == 404:
        assert asyncio.get_running_loop().time() < deadline, f"{path} was not found within {WAIT_S} s"
        await asyncio.sleep(0.02)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


@pytest.mark.parametrize("owner_id", ["ada", "a&b/ü", "o" * 128])
async def test_one_signup_and_one_daily_reward(http: httpx.AsyncClient, owner_id: str) -> None:
    signup = await http.post("/signup", params={"owner_id": owner_id})
    assert (signup.status_code, signup.json()["balance"]) == (200, 3)
    assert signup.json()["entry"]["nonce"] == f"signup_{owner_id}"[:128]
    again = await http.post("/signup", params={"owner_id": owner_id})
    assert again.status_code == 400
    assert again.json() == {"detail": f"Transaction with nonce {f'signup_{owner_id}'[:128]} already exists"}
    reward = await http.post("/daily-reward", params={"owner_id": owner_id})
    assert (reward.status_code, reward.json()["balance"]) == (200, 4)
    assert reward.json()["entry"]["nonce"].endswith(f"{datetime.now(UTC):%Y-%m-%d}")
    assert (await http.post("/daily-reward", params={"owner_id": owner_id})).status_code == 400


async def test_a_read_after_an_answered_write_shows_it(http: httpx.AsyncClient, ada: str) -> None:
    """Stale balances read after a write: never, whatever the projection is doing."""
    for number in range(1, 31):
        answer = await http.post(
            "/ledger", json={"operation": "CREDIT_ADD", "owner_id": ada, "nonce": str(number), "amount": 1}
        )
        assert answer.json()["balance"] == number
        assert await balance(http, ada) == number
    entries = (await http.get(f"/ledger/{ada}/entries")).json()["entries"]
    assert entries[0]["nonce"] == "30"


async def test_a_batch_is_shown_by_the_next_read(http: httpx.AsyncClient, ada: str) -> None:
    commands = [
        {"operation": "CREDIT_ADD", "owner_id": f"{ada}-{n % 10}", "nonce": str(n), "amount": 1} for n in range(1_000)
    ]
    answer = await http.post("/ledger/entries", json={"entries": commands})
    assert [result["status"] for result in answer.json()["results"]] == [200] * 1_000
    assert [await balance(http, f"{ada}-{n}") for n in range(10)] == [100] * 10


async def test_reading_content_is_free_but_recorded(http: httpx.AsyncClient, ada: str) -> None:
    for _ in range(2):
        answer = await http.post("/content/article-1/access", params={"owner_id": ada})
        assert (answer.status_code, answer.json()["balance"]) == (200, 0)
        assert answer.json()["entry"]["amount"] == 0
    assert len((await http.get(f"/ledger/{ada}/entries")).json()["entries"]) == 2


async def test_content_without_credits_is_refused_and_never_seen(http: httpx.AsyncClient, ada: str) -> None:
    answer = await http.post("/content", params={"owner_id": ada}, json={"title": "T", "body": "B"})
    assert answer.status_code == 400
    assert answer.json() == {"detail": "Insufficient credits: 0 available, 5 needed"}
    assert (await http.get("/content/whatever")).status_code == 404


async def test_content_becomes_visible_when_its_debit_is_in_the_events(http: httpx.AsyncClient, ada: str) -> None:
    await http.post("/ledger", json={"operation": "CREDIT_ADD", "owner_id": ada, "nonce": "n", "amount": 12})
    answer = await http.post("/content", params={"owner_id": ada}, json={"title": "T", "body": "ü" * 1000})
    assert answer.status_code == 200
    content_id = answer.json()["content_id"]
    content = await until_found(http, f"/content/{content_id}")
    assert (content["owner_id"], content["title"], content["body"]) == (ada, "T", "ü" * 1000)
    assert content["position"] == answer.json()["entry"]["position"]


async def test_a_low_balance_is_noticed_once(http: httpx.AsyncClient, ada: str) -> None:
    await http.post("/ledger", json={"operation": "CREDIT_ADD", "owner_id": ada, "nonce": "n", "amount": 11})
    for _ in range(2):
        last = await http.post("/content", params={"owner_id": ada})
    await until_found(http, f"/content/{last.json()['content_id']}")
    await http.post("/ledger", json={"operation": "CREDIT_SPEND", "owner_id": ada, "nonce": "m"})
    notices = (await http.get("/notices", params={"owner_id": ada})).json()["notices"]
    assert [(notice["balance"], notice["position"]) for notice in notices] == [(1, last.json()["entry"]["position"])]


async def test_a_retry_with_a_key_pays_once(http: httpx.AsyncClient, ada: str) -> None:
    await http.post("/ledger", json={"operation": "CREDIT_ADD", "owner_id": ada, "nonce": "n", "amount": 20})
    headers = {"Idempotency-Key": "k"}
    first = await http.post("/content", params={"owner_id": ada}, json={"title": "T"}, headers=headers)
    again = await http.post("/content", params={"owner_id": ada}, json={"title": "T"}, headers=headers)
    assert (first.status_code, first.json()["balance"]) == (200, 15)
    assert again.json() == first.json()
    other = await http.post("/content", params={"owner_id": ada}, json={"title": "other"}, headers=headers)
    assert other.status_code == 422
    assert await balance(http, ada) == 15


async def test_a_malformed_request_is_422(http: httpx.AsyncClient) -> None:
    malformed: list[tuple[str, dict[str, str], object]] = [
        ("/signup", {}, None),
        ("/signup", {"owner_id": ""}, None),
        ("/signup", {"owner_id": "x" * 129}, None),
        ("/signup", {"owner_id": "a\0b"}, None),
        ("/content", {"owner_id": "a"}, {"title": ""}),
        ("/content", {"owner_id": "a"}, {"title": "a\0b"}),
        ("/content", {"owner_id": "a"}, {"titel": "T"}),
        ("/content/a b/access", {"owner_id": "a"}, None),
    ]
    for path, parameters, body in malformed:
        answer = await http.post(path, params=parameters, json=body)
        assert (answer.status_code, bool(answer.json()["detail"])) == (422, True), (path, parameters, body)


async def test_health_and_documentation(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json()["status"] == "healthy"
    ready = await http.get("/health/ready")
    assert ready.status_code == 200, ready.text
    for path in ("/docs", "/redoc"):
        assert (await http.get(path)).status_code == 200
    document = (await http.get("/openapi.json")).json()
    assert set(document["paths"]) >= {
        "/health",
        "/ledger",
        "/ledger/entry",
        "/ledger/entries",
        "/commands/{command_id}",
        "/signup",
        "/daily-reward",
        "/content",
        "/content/{content_id}",
        "/content/{content_id}/access",
    }
    undocumented = [
        f"{method} {path}"
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if not operation.get("description") or not operation.get("summary")
    ]
    assert undocumented == []
