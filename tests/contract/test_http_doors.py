"""Who may come in over HTTP: keys, scopes, apps, rates; the ledger's rules behind the door, without servers."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request

from apps.example_app.operations import ExampleAppOperations
from ledger.api_keys.secret import new_key
from ledger.api_keys.store import Scope
from ledger.domain.limits import AMOUNT_MAX
from ledger.operations import BaseLedgerOperations, OperationRule, Registry, Sign
from producers import LedgerClient
from producers.answers_by_app import AnswersByApp, ClientWhenNeeded
from producers.command_lookup import Found, Place
from producers.command_status import command_status_router
from producers.doors import Doorkeeper, DoorPolicy, KeyRing, document_doors, is_stranger, key_ring
from producers.doors.doorkeeper import FAILURES_AT_ONCE, KeysWanted
from producers.http_answers import HttpAnswers, Submitter
from producers.http_router import command_router
from tests.answering_ledger import TOPICS, AnsweringLedger, InMemoryConnection, answering_ledger
from tests.door_keys import KeysInMemory, presented

RATE_PER_S = 8
BURST = 40
ADD = {"operation": "CREDIT_ADD", "owner_id": "alice", "nonce": "top-up", "amount": 100}
SPEND = {"operation": "CREDIT_SPEND", "owner_id": "alice", "nonce": "order", "amount": -5}


class KioskOperations(BaseLedgerOperations):
    """May only spend, and no more than 500 at a time by its own operation."""

    app = "kiosk"
    operations = {
        **BaseLedgerOperations.operations,
        "SNACK": OperationRule(-3, Sign.NEGATIVE, caller_sets_amount=True, largest_amount=500),
    }
    allowed_base_operations = frozenset({"CREDIT_SPEND"})


REGISTRY = Registry([ExampleAppOperations, KioskOperations])


class LookupOfOneApp:
    """Knows commands by app alone, so that whoever asks for another app's finds none."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def find(self, app: str, owner_id: str, command_id: UUID, place: Place | None) -> Found:
        self.asked.append(app)
        return Found()


class Service:
    """The doors, and behind them the routes for commands, one of the app's own, and those that are open."""

    def __init__(self, fake: AnsweringLedger, keys: KeysWanted = "auto") -> None:
        self.fake = fake
        self.source = KeysInMemory()
        self.seconds = 100.0
        self.ring = KeyRing(self.source)
        self.lookup = LookupOfOneApp()
        self.opened: list[LedgerClient] = []
        self.app = FastAPI()
        self.own = LedgerClient("example-app", connection=InMemoryConnection(fake.broker))
        own = HttpAnswers(self.own, lambda position, owner_id: None, 5.0, ExampleAppOperations.operations)
        rules = {app: of_app.operations for app, of_app in REGISTRY.items()}
        self.app.include_router(command_router(AnswersByApp(own, rules, self._submitter)))
        self.app.include_router(command_status_router("example-app", TOPICS, self.lookup))
        self.app.include_router(self._other_routes(own))
        policy = DoorPolicy(keys, RATE_PER_S, BURST)
        self.app.add_middleware(Doorkeeper, ring=self.ring, policy=policy, now=lambda: self.seconds)
        document_doors(self.app, self.ring, policy)

    def _submitter(self, app: str) -> Submitter:
        async def opened() -> LedgerClient:
            client = LedgerClient(app, connection=InMemoryConnection(self.fake.broker))
            self.opened.append(client)
            return await client.__aenter__()

        return ClientWhenNeeded(app, opened)

    def _other_routes(self, own: HttpAnswers) -> APIRouter:
        router = APIRouter()

        @router.get("/health/ready")
        async def ready(request: Request) -> bool:
            return is_stranger(request.scope)

        @router.get("/balance/{owner_id}")
        async def balance(owner_id: str) -> str:
            return owner_id

        @router.post("/signup", dependencies=[Depends(own.of_caller)])
        async def signup() -> str:
            return "welcome"

        return router

    def http(self, key: str | None = None, at: str = "http://test") -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=at, headers=headers)

    def recorded(self) -> list[tuple[str, str, int, str | None]]:
        return [(one.app, one.operation, one.amount, one.reason) for one in self.fake.events.values()]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "REREAD_AFTER_S", 0.0)


@pytest.fixture
async def fake() -> AsyncIterator[AnsweringLedger]:
    async with answering_ledger(REGISTRY) as ledger:
        yield ledger


@pytest.fixture
async def service(fake: AnsweringLedger) -> AsyncIterator[Service]:
    made = Service(fake)
    async with made.own:
        yield made
        for client in made.opened:
            await client.__aexit__(None, None, None)


# before the first key


async def test_before_the_first_key_none_is_asked_for(service: Service) -> None:
    for address in ("http://test", "http://127.0.0.1:8000", "http://[::1]:8000"):
        async with service.http(at=address) as http:
            assert (await http.get("/balance/a")).status_code == 200
            assert (await http.get("/health/ready")).json() is False
    async with service.http() as http:
        answer = await http.post("/ledger", json=ADD)
    assert answer.json()["balance"] == 100
    assert service.recorded() == [("example-app", "CREDIT_ADD", 100, None)]


async def test_before_the_first_key_nobody_comes_in_from_outside_whoever_runs_the_app(service: Service) -> None:
    async with service.http(at="http://10.0.0.5:8000") as http:
        answer = await http.post("/ledger", json=ADD)
        assert answer.status_code == 401
        assert "`ledger keys create`" in answer.json()["detail"]
        assert (await http.get("/health/ready")).json() is True
    assert service.recorded() == []


async def test_a_service_that_is_open_until_the_first_key_is_open_from_outside(fake: AnsweringLedger) -> None:
    service = Service(fake, "open-until-first")
    async with service.http(at="http://10.0.0.5:8000") as http:
        assert (await http.get("/balance/a")).status_code == 200
        service.source.make("kiosk")
        await service.ring.find(presented(new_key()))
        assert (await http.get("/balance/a")).status_code == 401


async def test_a_service_that_requires_keys_asks_before_there_is_any(fake: AnsweringLedger) -> None:
    service = Service(fake, "required")
    async with service.http() as http:
        assert (await http.get("/balance/a")).status_code == 401
        assert (await http.get("/health/ready")).json() is True


async def test_while_it_is_not_known_whether_there_are_keys_nobody_comes_in(service: Service) -> None:
    service.source.away = True
    async with service.http() as http:
        answer = await http.get("/balance/a")
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {"detail": "API keys cannot be checked: Postgres is away"}
        assert (await http.get("/health/ready")).json() is True
        service.source.away = False
        assert (await http.get("/balance/a")).status_code == 200


# keys


async def test_without_a_valid_key_nobody_comes_in(service: Service) -> None:
    key = service.source.make("kiosk")
    wrong = [None, "", "x", key[:-1], key + "x", key.upper(), new_key(), key[:15] + new_key()[15:]]
    for shown in wrong:
        async with service.http(shown) as http:
            for answer in (await http.get("/balance/a"), await http.post("/ledger", json=SPEND)):
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"].startswith('Bearer realm="ledger"')
                assert answer.json()["detail"]
                assert not shown or len(shown) < 20 or shown not in answer.text
    async with service.http() as http:
        assert (await http.get("/balance/a", headers={"Authorization": key})).status_code == 200  # no scheme: the key
        assert (await http.get("/balance/a", headers={"Authorization": f"bearer  {key}"})).status_code == 200
        assert (await http.get("/balance/a", headers={"X-API-Key": key})).status_code == 200
        assert (await http.get("/balance/a", params={"api_key": key})).status_code == 401
        two = {"X-API-Key": key, "Authorization": f"Bearer {service.source.make('example-app')}"}
        assert (await http.get("/balance/a", headers=two)).status_code == 401
    assert service.recorded() == []


async def test_open_routes_answer_everybody_and_tell_who_is_a_stranger(service: Service) -> None:
    key = service.source.make("kiosk", Scope.READ)
    for shown, stranger in ((key, False), (None, True), ("nonsense", True)):
        async with service.http(shown) as http:
            await http.get("/balance/a")
            assert (await http.get("/health/ready")).json() is stranger
            for path in ("/docs", "/redoc", "/openapi.json"):
                assert (await http.get(path)).status_code == 200


async def test_a_key_opens_what_its_scopes_say(service: Service) -> None:
    reading, writing = service.source.make("kiosk", Scope.READ), service.source.make("kiosk", Scope.WRITE)
    async with service.http(reading) as http:
        assert (await http.get("/balance/a")).status_code == 200
        refused = await http.post("/ledger", json=SPEND)
        assert refused.status_code == 403
        assert refused.json() == {"detail": f"The API key {reading[4:14]} lacks the scope `write`"}
        for method in ("PUT", "DELETE", "PATCH"):
            assert (await http.request(method, "/balance/a")).status_code == 403
    async with service.http(writing) as http:
        assert (await http.post("/ledger", json=SPEND)).status_code == 400
        assert (await http.get("/balance/a")).json() == {
            "detail": f"The API key {writing[4:14]} lacks the scope `read`"
        }
    assert len(service.recorded()) == 1


async def test_a_revoked_key_and_the_last_one_too_open_nothing(service: Service) -> None:
    key = service.source.make("kiosk")
    async with service.http(key) as http:
        assert (await http.get("/balance/a")).status_code == 200
        service.source.keys.clear()
        await service.ring.find(presented(new_key()))
        assert (await http.get("/balance/a")).status_code == 401
    async with service.http() as http:
        assert (await http.get("/balance/a")).status_code == 401


async def test_no_key_is_ever_logged(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key, unknown = service.source.make("kiosk"), new_key()
    for shown in (key, unknown, key + "x"):
        async with service.http(shown) as http:
            await http.get("/balance/a")
            await http.post("/ledger", json={**SPEND, "nonce": None})
            await http.post("/ledger", content=b"\xff", headers={"Content-Type": "application/json"})
    assert caplog.records
    secrets = [one[15:] for one in (key, unknown)]
    assert not any(
        secret in f"{record.getMessage()} {record.__dict__}" for record in caplog.records for secret in secrets
    )


# the key decides the app


async def test_the_key_decides_the_app(service: Service) -> None:
    kiosk, example = service.source.make("kiosk"), service.source.make("example-app")
    async with service.http(example) as http:
        assert (await http.post("/ledger", json=ADD)).status_code == 200
        assert (await http.post("/signup")).status_code == 200
    async with service.http(kiosk) as http:
        claims = {"X-App": "example-app", "Ledger-App": "example-app"}
        answer = await http.post("/ledger", json=SPEND, params={"app": "example-app"}, headers=claims)
        assert answer.json()["balance"] == 95
        assert (await http.post("/ledger", json={**SPEND, "app": "example-app"})).status_code == 422
        refused = await http.post("/signup")
        assert refused.status_code == 403
        assert refused.json() == {"detail": "This route belongs to the app example-app; the API key is one of kiosk"}
    assert [(app, operation) for app, operation, _, _ in service.recorded()] == [
        ("example-app", "CREDIT_ADD"),
        ("kiosk", "CREDIT_SPEND"),
    ]
    assert [client.app for client in service.opened] == ["kiosk"]


async def test_a_key_of_an_app_that_is_not_registered_writes_nothing(service: Service) -> None:
    async with service.http(service.source.make("elsewhere")) as http:
        answer = await http.post("/ledger", json=SPEND)
        assert (answer.status_code, "not registered" in answer.json()["detail"]) == (403, True)
        assert (await http.get("/balance/a")).status_code == 200


async def test_a_key_learns_the_fate_of_its_own_apps_commands_alone(service: Service) -> None:
    kiosk = service.source.make("kiosk")
    command = "/commands/019c1409-3d80-7000-8000-5f6f1c2d3e4f"
    async with service.http(kiosk) as http:
        assert (await http.get(command, params={"owner_id": "a"})).status_code == 404
        elsewhere = {"owner_id": "a", "at": "ledger.commands.example-app:0:1"}
        assert (await http.get(command, params=elsewhere)).status_code == 422
        here = {"owner_id": "a", "at": "ledger.commands.kiosk:0:1"}
        assert (await http.get(command, params=here)).json()["state"] == "RECEIVED"
    assert set(service.lookup.asked) == {"kiosk"}


MINTING: list[tuple[dict[str, Any], str]] = [
    ({**ADD, "amount": 1_000}, "Operation not allowed"),
    ({"operation": "CREDIT_ADD", "owner_id": "alice", "nonce": "n"}, "Operation not allowed"),
    ({"operation": "SIGNUP_CREDIT", "owner_id": "alice", "nonce": "n"}, "Operation not allowed"),
    ({"operation": "DAILY_REWARD", "owner_id": "alice", "nonce": "n"}, "Operation not allowed"),
    ({**SPEND, "amount": 1_000}, "Invalid amount: must be negative, got 1000"),
    ({**SPEND, "amount": 0}, "Invalid amount"),
    ({**SPEND, "amount": -AMOUNT_MAX - 1}, "Invalid amount: must be at most"),
    ({**SPEND, "amount": -(2**63)}, "Invalid amount: must be at most"),
    ({**SPEND, "operation": "SNACK", "amount": -501}, "Invalid amount: must be at most 500"),
    ({**SPEND, "operation": "SNACK", "amount": 3}, "Invalid amount: must be negative"),
    ({**SPEND, "operation": "CONTENT_CREATION", "amount": None}, "Invalid operation: CONTENT_CREATION"),
    ({**SPEND, "operation": "credit_add", "amount": 5}, "Invalid operation"),
    ({**SPEND, "operation": "CREDIT_ADD\u200b", "amount": 5}, "Invalid operation"),
    ({**SPEND, "credit_type": "gold"}, "Unknown credit type: gold"),
    ({**SPEND, "amount": -101}, "Insufficient credits: 100 available, 101 needed"),
]


@pytest.mark.parametrize("way", ["/ledger", "/ledger/entry", "/ledger/entries", "/ledger with a key of another app"])
async def test_a_stolen_spending_key_cannot_mint(service: Service, way: str) -> None:
    example, stolen = service.source.make("example-app"), service.source.make("kiosk")
    async with service.http(example) as http:
        assert (await http.post("/ledger", json=ADD, headers={"Idempotency-Key": "k"})).json()["balance"] == 100
    path, _, other_key = way.partition(" ")
    async with service.http(stolen) as http:
        for command, text in MINTING:
            service.seconds += 10
            if path == "/ledger/entries":
                batch = await http.post(path, json=[command])
                [result] = batch.json()["results"]
                status, body = result["status"], result["body"]
            else:
                answer = await http.post(path, json=command, headers={"Idempotency-Key": "k"} if other_key else {})
                status, body = answer.status_code, answer.json()
            # A command id is made from app, owner and key: another app's key of a request means nothing here.
            if other_key and status == 422:
                assert "Idempotency-Key was used for another request" in body["detail"]
                continue
            assert status == 400, (command, body)
            assert body["detail"].startswith(text), (command, body)
    minted = [event for event in service.fake.events.values() if event.app == "kiosk" and event.amount > 0]
    assert minted == []
    accounts = {event.balance_after for event in service.fake.events.values() if event.credit_type == "credits"}
    assert accounts == {100}


async def test_one_minting_command_of_a_batch_changes_nothing_about_the_others(service: Service) -> None:
    async with service.http(service.source.make("example-app")) as http:
        await http.post("/ledger", json=ADD)
    async with service.http(service.source.make("kiosk")) as http:
        batch = [SPEND, {**ADD, "nonce": "mint"}, {**SPEND, "nonce": "order-2"}]
        results = (await http.post("/ledger/entries", json=batch)).json()["results"]
    assert [result["status"] for result in results] == [200, 400, 200]
    assert results[2]["body"]["balance"] == 90


# how much


async def test_a_key_that_asks_too_much_hears_429_and_when_to_come_again(service: Service) -> None:
    key, other = service.source.make("kiosk"), service.source.make("kiosk")
    async with service.http(key) as http:
        assert {(await http.get("/balance/a")).status_code for _ in range(BURST)} == {200}
        refused = await http.get("/balance/a")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")
        assert refused.json()["detail"].startswith("Too many requests: an API key may do 8 a second, and 40 at once")
        service.seconds += 1
        assert [(await http.get("/balance/a")).status_code for _ in range(RATE_PER_S + 1)] == [200] * RATE_PER_S + [429]
    async with service.http(other) as http:
        assert (await http.get("/balance/a")).status_code == 200


async def test_the_commands_of_a_batch_count_one_by_one_and_nothing_is_sent_of_one_that_is_too_much(
    service: Service,
) -> None:
    def batch(count: int, name: str) -> list[dict[str, Any]]:
        return [{**SPEND, "nonce": f"{name}-{number}"} for number in range(count)]

    async with service.http(service.source.make("kiosk")) as http:
        assert (await http.post("/ledger/entries", json=batch(BURST - 1, "a"))).status_code == 200
        refused = await http.post("/ledger/entries", json=batch(9, "b"))
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "1")  # its first was let in at the door
        assert "nothing was done" in refused.json()["detail"]
        assert len(service.recorded()) == BURST - 1
        service.seconds += 1.125
        assert (await http.post("/ledger/entries", json=batch(9, "b"))).status_code == 200
    assert len(service.recorded()) == BURST - 1 + 9


async def test_whoever_tries_keys_is_soon_told_nothing_and_valid_keys_still_open(service: Service) -> None:
    key = service.source.make("kiosk")
    async with service.http() as http:
        statuses = [(await http.get("/balance/a", headers={"X-API-Key": new_key()})).status_code for _ in range(40)]
        assert statuses == [401] * FAILURES_AT_ONCE + [429] * (40 - FAILURES_AT_ONCE)
        reads = service.source.reads
        refused = await http.get("/balance/a", headers={"X-API-Key": new_key()})
        assert refused.json()["detail"].startswith("Too many requests without a valid API key from 127.0.0.1")
        assert int(refused.headers["Retry-After"]) >= 1
        assert service.source.reads == reads  # Postgres is not asked for them any more
        assert (await http.get("/balance/a", headers={"X-API-Key": key})).status_code == 200


# what the documentation says


async def test_the_documentation_tells_about_the_doors(service: Service) -> None:
    async with service.http() as http:
        await http.get("/balance/a")
        open_document = (await http.get("/openapi.json")).json()
        service.source.make("kiosk")
        await service.ring.find(presented(new_key()))
        document = (await http.get("/openapi.json")).json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert {} in open_document["paths"]["/ledger"]["post"]["security"]
    assert {} not in document["paths"]["/ledger"]["post"]["security"]
    assert document["paths"]["/health/ready"]["get"]["security"] == []
    for path in ("/ledger", "/ledger/entries"):
        operation = document["paths"][path]["post"]
        assert {"401", "403", "408", "413", "414", "422", "429", "503"} <= set(operation["responses"])
        assert "Needs the scope `write`" in operation["description"]
    for status in ("401", "403", "429", "503"):
        answer = document["paths"]["/balance/{owner_id}"]["get"]["responses"][status]
        assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}


async def test_a_caller_who_goes_away_does_not_end_the_opening_for_others() -> None:
    go = asyncio.Event()
    opened = 0

    async def opening() -> Any:
        nonlocal opened
        opened += 1
        await go.wait()
        return _Client()

    submitter = ClientWhenNeeded("kiosk", opening)
    first, second = (asyncio.create_task(submitter.submit_many([])) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    go.set()
    assert await second == []
    assert opened == 1


class _Client:
    async def submit_many(self, *_: object, **__: object) -> list[object]:
        return []
