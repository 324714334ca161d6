"""The doors of HTTP on real servers: keys in Postgres, two apps on Kafka, and real connections."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import httpx
import pytest
import pytest_asyncio

from apps.example_app.operations import ExampleAppOperations
from ledger.api_keys.secret import new_key
from ledger.api_keys.store import Scope, create_api_key, list_api_keys
from ledger.operations import BaseLedgerOperations, OperationRule, Sign
from producers.doors import DoorPolicy, KeyRing, PostgresDoorKeys, key_ring
from producers.doors.key_ring import REVOKED_WITHIN_S, KeysUnavailableError
from producers.http_router import BODY_BYTES_MAX
from service.processes import http_connections
from tests.cli_process import cli_environment, ledger_cli
from tests.door_keys import presented
from tests.http_on_servers import HttpOnServers, http_on_servers, make_key, revoke_key

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]
ADD = {"operation": "CREDIT_ADD", "owner_id": "alice", "nonce": "top-up", "amount": 100}
SPEND = {"operation": "CREDIT_SPEND", "owner_id": "alice", "nonce": "order", "amount": -5}


class KioskOperations(BaseLedgerOperations):
    """May only spend."""

    app = "kiosk"
    operations = {**BaseLedgerOperations.operations, "SNACK": OperationRule(-3, Sign.NEGATIVE)}
    allowed_base_operations = frozenset({"CREDIT_SPEND"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[HttpOnServers]:
    doors = DoorPolicy("required", rate_per_s=1_000, burst=5_000)
    classes = (ExampleAppOperations, KioskOperations)
    async with http_on_servers(kafka_bootstrap, postgres_server_url, doors, classes) as running:
        yield running


def http(service: HttpOnServers, key: str | None) -> httpx.AsyncClient:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=service.url, headers=headers, timeout=60)


async def test_the_key_decides_the_topic_and_a_stolen_spending_key_mints_nothing(service: HttpOnServers) -> None:
    example, kiosk = await service.make_key("example-app"), await service.make_key("kiosk")
    async with http(service, example) as as_example, http(service, kiosk) as as_kiosk, http(service, None) as nobody:
        assert (await nobody.post("/ledger", json=ADD)).status_code == 401
        assert (await as_example.post("/ledger", json=ADD)).json()["balance"] == 100
        mint = await as_kiosk.post("/ledger", json={**ADD, "nonce": "mint"})
        assert (mint.status_code, mint.headers["Ledger-Reason"]) == (400, "OPERATION_NOT_ALLOWED")
        positive = await as_kiosk.post("/ledger", json={**SPEND, "amount": 1_000})
        assert (positive.status_code, positive.headers["Ledger-Reason"]) == (400, "INVALID_AMOUNT")
        foreign = await as_kiosk.post("/ledger", json={**SPEND, "operation": "CONTENT_CREATION", "amount": None})
        assert (foreign.status_code, foreign.headers["Ledger-Reason"]) == (400, "UNKNOWN_OPERATION")
        spent = await as_kiosk.post("/ledger", json=SPEND)
        assert spent.json()["balance"] == 95
        assert (await as_kiosk.post("/signup", params={"owner_id": "bob"})).status_code == 403
        assert (await as_kiosk.get("/balance/alice")).json()["balance"] == 95
        entries = (await as_kiosk.get("/ledger/alice/entries")).json()["entries"]
        assert [(entry["app"], entry["operation"]) for entry in entries] == [
            ("kiosk", "CREDIT_SPEND"),
            ("example-app", "CREDIT_ADD"),
        ]
        # What became of a command is told to its own app alone.
        command = f"/commands/{spent.json()['entry']['command_id']}"
        assert (await as_kiosk.get(command, params={"owner_id": "alice"})).json()["state"] == "COMPLETED"
        assert (await as_example.get(command, params={"owner_id": "alice"})).status_code == 404
    apps = {event.app: event.amount for event in await service.ledger.events() if event.owner_id == "alice"}
    assert set(apps) == {"example-app", "kiosk"}


async def test_an_idempotency_key_is_the_apps_own(service: HttpOnServers) -> None:
    headers = {"Idempotency-Key": "k"}
    ids = []
    for app in ("example-app", "kiosk"):
        async with http(service, await service.make_key(app)) as client:
            answer = await client.post("/ledger", json={**SPEND, "owner_id": "idem", "nonce": app}, headers=headers)
            ids.append(answer.headers["Ledger-Command-Id"])
    assert ids[0] != ids[1]


async def test_keys_are_made_listed_and_revoked_by_the_command_line(service: HttpOnServers, tmp_path: Path) -> None:
    environment = cli_environment(service.ledger, tmp_path)
    made = await ledger_cli(
        "keys",
        "create",
        "--app",
        "example-app",
        "--scope",
        "read",
        "--label",
        "Büro",
        "--json",
        environment=environment,
    )
    assert made.code == 0, made.err
    key = made.document["key"]
    assert (made.document["scopes"], made.document["label"], made.document["usable"]) == (["read"], "Büro", True)
    async with http(service, key) as client:
        assert (await client.get("/balance/alice")).status_code == 200
        revoked = await ledger_cli("keys", "revoke", made.document["id"], environment=environment)
        assert revoked.code == 0, revoked.err
        began = time.monotonic()
        while (await client.get("/balance/alice")).status_code == 200:
            assert time.monotonic() - began < REVOKED_WITHIN_S
            await asyncio.sleep(0.05)
        assert (await client.get("/balance/alice")).status_code == 401
    listed = await ledger_cli("keys", "list", "--json", environment=environment)
    [row] = [one for one in listed.document if one["id"] == made.document["id"]]
    assert (row["usable"], row["revoked_at"] is None) == (False, False)
    assert key[15:] not in listed.out + listed.err


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_beyond_the_limit_is_413_on_a_real_connection(service: HttpOnServers, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(BODY_BYTES_MAX // 65_536 + 2):
            yield b" " * 65_536

    content = chunks() if chunked else b" " * (BODY_BYTES_MAX + 1)
    headers = {"Content-Type": "application/json"}
    async with http(service, await service.make_key("kiosk")) as client:
        try:
            answer = await client.post("/ledger", content=content, headers=headers)
        except (httpx.WriteError, httpx.ReadError):
            return  # the service has hung up on the rest of the body, before its answer was read
    assert (answer.status_code, answer.json()) == (413, {"detail": "The body is too large; nothing was sent"})


async def test_a_head_that_does_not_end_ends_the_connection(
    service: HttpOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "HEAD_WAIT_S", 0.1)
    for sent in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        writer.write(sent)
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()


async def test_a_second_request_on_a_connection_may_not_stall_either(
    service: HttpOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "HEAD_WAIT_S", 0.5)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    async with asyncio.timeout(10):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.write(b"GET /health HTT")
        with contextlib.suppress(ConnectionResetError):
            assert b"healthy" in await reader.read()
    writer.close()


async def test_connections_beyond_the_limit_are_closed(service: HttpOnServers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "CONNECTIONS_MAX", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()


# the table


async def test_the_table_says_what_opens(service: HttpOnServers, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = service.ledger.pool
    source = PostgresDoorKeys(service.ledger.database_url)
    ring = KeyRing(source)
    monkeypatch.setattr(key_ring, "REREAD_AFTER_S", 0.0)
    key = await make_key(pool, "kiosk", Scope.READ)
    found = await ring.find(presented(key))
    assert found is not None
    assert (found.app, found.scopes) == ("kiosk", frozenset({Scope.READ}))
    await source.note_used([found.id])
    await revoke_key(pool, key)
    assert await ring.find(presented(key)) is None
    async with pool.acquire() as connection:
        [row] = [one for one in await list_api_keys(connection, app="kiosk") if one.id == found.id]
    assert row.last_used_at is not None
    assert (row.usable, row.revoked_by) == (False, "test")
    await source.close()


async def test_an_expired_key_is_not_read_and_not_counted(service: HttpOnServers) -> None:
    key = new_key()
    async with service.ledger.pool.acquire() as connection:
        made = await create_api_key(
            connection,
            key,
            app="kiosk",
            scopes=[Scope.READ],
            label="",
            created_by="test",
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
        )
    assert not made.usable
    source = PostgresDoorKeys(service.ledger.database_url)
    read = await source.read()
    assert (read.any_made, made.id in {one.id for one in read.usable}) == (True, False)
    await source.close()


async def test_a_connection_that_broke_is_made_again(service: HttpOnServers) -> None:
    source = PostgresDoorKeys(service.ledger.database_url)
    await source.read()
    killed = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ledger api keys'"
    await service.ledger.pool.execute(killed)
    with contextlib.suppress(KeysUnavailableError):  # unless it was told before
        await source.read()
    assert (await source.read()).any_made
    await source.close()


async def test_a_database_without_the_table_opens_nothing(empty_database_url: str) -> None:
    with pytest.raises(KeysUnavailableError):
        await PostgresDoorKeys(empty_database_url).read()


async def test_the_service_may_read_keys_and_note_their_use_and_no_more(service: HttpOnServers) -> None:
    async with service.ledger.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL ROLE ledger_reader")
        await connection.fetch("SELECT ledger.note_keys_used(ARRAY['0000000000'])")
        for statement in (
            "UPDATE ledger.api_key SET revoked_at = NULL",
            "UPDATE ledger.api_key SET scopes = ARRAY['write']",
            "DELETE FROM ledger.api_key",
            "INSERT INTO ledger.api_key SELECT * FROM ledger.api_key",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(statement)
    for role in ("ledger_writer", "ledger_projector"):
        async with service.ledger.pool.acquire() as connection, connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {role}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.fetch("SELECT * FROM ledger.api_key")


# the start


async def test_without_keys_the_service_starts_on_loopback_only(service: HttpOnServers, tmp_path: Path) -> None:
    environment = cli_environment(service.ledger, tmp_path)
    async with service.ledger.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute("ALTER TABLE ledger.api_key RENAME TO kept_api_key")
        await connection.execute("CREATE TABLE ledger.api_key (LIKE ledger.kept_api_key)")
        await connection.execute("GRANT SELECT ON ledger.api_key TO ledger_reader")
        await transaction.commit()
        try:
            refused = await ledger_cli("run", "http", "--host", "0.0.0.0", "--port", "0", environment=environment)
        finally:
            await connection.execute("DROP TABLE ledger.api_key")
            await connection.execute("ALTER TABLE ledger.kept_api_key RENAME TO api_key")
    assert refused.code == 2, refused.err
    assert "HTTP listens on loopback only, and not on 0.0.0.0" in refused.err
    assert "`ledger keys create --app APP --scope read --scope write`" in refused.err
    assert "Traceback" not in refused.err
