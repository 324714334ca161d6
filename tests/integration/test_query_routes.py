"""The HTTP routes of queries and health, on real Kafka and Postgres, against DESIGN (HTTP)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI

from ledger.domain.position import Position
from projections.http import KafkaCommandLogs, Queries, create_query_router
from projections.registry import READ_MODELS
from projections.versions import install
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected

pytestmark = pytest.mark.integration
READ_WAIT_S = 0.3


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        await install(empty_database_url, READ_MODELS)
        yield running


@pytest.fixture
async def queries(ledger: LedgerOnServers) -> AsyncIterator[Queries]:
    async with Queries(
        ledger.database_url,
        read_wait_s=READ_WAIT_S,
        kafka_probe=ledger.admin.partition_counts,
        command_logs=KafkaCommandLogs(ledger.bootstrap, ledger.topics),
    ) as opened:
        yield opened


@asynccontextmanager
async def serving(queries: Queries) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(create_query_router(queries))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ledger") as client:
        yield client


@pytest.fixture
async def http(queries: Queries) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(queries) as client:
        yield client


async def test_an_unknown_owner_has_nothing(http: httpx.AsyncClient) -> None:
    for path in ("/balance/nobody", "/ledger/nobody/balance"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.json()["balance"] == 0
        assert answer.json()["last_updated"] is None
    page = await http.get("/ledger/nobody/entries")
    assert page.json()["entries"] == []
    assert page.json()["next_before"] is None


async def test_balance_and_entries_of_an_owner(ledger: LedgerOnServers, http: httpx.AsyncClient) -> None:
    owner = "tenant/1 ü"  # a slash, a blank and an umlaut: any text is an owner
    async with ledger.running(), projecting(ledger):
        await ledger.send(
            command(owner, "CREDIT_ADD", 100, nonce="a"),
            command(owner, "CREDIT_SPEND", -30, nonce="b"),
            command(owner, "CREDIT_SPEND", -71, nonce="c"),
            command(owner, "CREDIT_SPEND", -70, nonce="d"),
        )
        await until_projected(ledger, 4)
        ready = await http.get("/health/ready")
    quoted = "tenant%2F1%20%C3%BC"
    balance = await http.get(f"/balance/{quoted}")
    assert balance.json()["balance"] == 0
    assert balance.json()["account_version"] == 3
    assert balance.json()["last_updated"] is not None
    assert balance.json() == (await http.get(f"/ledger/{quoted}/balance")).json()
    assert balance.headers["Ledger-Position"] == f"{ledger.partition(owner)}:4"

    entries = (await http.get(f"/ledger/{quoted}/entries")).json()["entries"]
    assert [entry["nonce"] for entry in entries] == ["d", "b", "a"]
    assert [entry["balance_after"] for entry in entries] == [0, 70, 100]
    assert entries[0]["id"] == Position.parse(entries[0]["position"]).entry_id
    everything = (await http.get(f"/ledger/{quoted}/entries", params={"include_rejected": True})).json()["entries"]
    assert [entry["nonce"] for entry in everything] == ["d", "c", "b", "a"]
    assert [entry["reason"] for entry in everything] == [None, "INSUFFICIENT_CREDITS", None, None]

    first = (await http.get(f"/ledger/{quoted}/entries", params={"limit": 2})).json()
    second = (await http.get(f"/ledger/{quoted}/entries", params={"limit": 2, "before": first["next_before"]})).json()
    assert [entry["nonce"] for entry in first["entries"] + second["entries"]] == ["d", "b", "a"]
    assert second["next_before"] is None

    assert ready.status_code == 200, ready.text
    assert ready.json()["status"] == "ready"
    assert {part["holder"] for part in ready.json()["consumer_partitions"]} == {"one"}


async def test_a_read_waits_for_the_position_it_names_and_shows_nothing_old(
    ledger: LedgerOnServers, http: httpx.AsyncClient
) -> None:
    async with ledger.running():
        await ledger.send(command("ada", "CREDIT_ADD", 100))
        await ledger.until_published()
        await ledger.until_events(1)
    position = f"{ledger.partition('ada')}:1"
    for path in ("/balance/ada", "/ledger/ada/entries"):
        for named in ({"params": {"min_position": position}}, {"headers": {"Ledger-Position": position}}):
            stale = await http.get(path, **named)  # type: ignore[arg-type]
            assert stale.status_code == 503
            assert int(stale.headers["Retry-After"]) >= 1
            assert position in stale.json()["detail"]
    async with projecting(ledger):
        await until_projected(ledger, 1)
    fresh = await http.get("/balance/ada", params={"min_position": position})
    assert fresh.json()["balance"] == 100
    assert fresh.headers["Ledger-Position"] == position


async def test_a_position_on_another_partition_says_nothing_about_this_owner(
    ledger: LedgerOnServers, http: httpx.AsyncClient
) -> None:
    other = (ledger.partition("ada") + 1) % ledger.partitions
    answer = await http.get("/balance/ada", params={"min_position": f"{other}:99"})
    assert answer.status_code == 200


async def test_a_service_shows_what_it_has_answered(ledger: LedgerOnServers, queries: Queries) -> None:
    partition = ledger.partition("ada")
    neighbour = next(name for name in map(str, range(1000)) if ledger.partition(name) == partition)
    queries.note_position(Position(partition, 1), "ada")
    async with serving(queries) as http:
        assert (await http.get("/balance/ada")).status_code == 503
        assert (await http.get(f"/balance/{neighbour}")).status_code == 200
        queries.note_position(Position(partition, 1))  # an answer of an owner who is not told
        assert (await http.get(f"/balance/{neighbour}")).status_code == 503


async def test_a_database_of_another_ledger_is_not_read(ledger: LedgerOnServers, http: httpx.AsyncClient) -> None:
    """It may answer under the same address one day, and its balances are not ours."""
    assert (await http.get("/balance/ada")).status_code == 200
    await ledger.pool.execute("UPDATE ledger.ledger_identity SET ledger_id = gen_random_uuid()")
    await ledger.pool.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'ledger queries'"
    )
    for path in ("/balance/ada", "/ledger/ada/entries"):
        answer = await http.get(path)
        assert answer.status_code == 503
        assert "FOREIGN LEDGER" in answer.json()["detail"]


@pytest.mark.parametrize(
    "query",
    [
        "/balance/ada?min_position=3",
        "/balance/ada?min_position=x:y",
        f"/balance/ada?min_position=1:{2**70}",
        "/ledger/ada/entries?before=nothing",
        "/ledger/ada/entries?limit=0",
        "/ledger/ada/entries?limit=501",
        "/balance/ada%00",
        f"/balance/{'a' * 129}",
        "/balance/",
    ],
)
async def test_a_malformed_question_is_answered_422(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(query)
    assert answer.status_code == 422
    assert answer.json()["detail"]


async def test_health_answers_alone_and_ready_names_what_is_missing(http: httpx.AsyncClient) -> None:
    assert (await http.get("/health")).json() == {"status": "healthy"}
    ready = await http.get("/health/ready")
    assert ready.status_code == 503
    body = ready.json()
    assert body["kafka"]["status"] == body["postgres"]["status"] == "ok"
    assert "no ledger consumer holds partition 0, 1, 2, 3" in body["ledger_consumer"]["problems"][0]
    assert "no projection worker holds balances on partition 0" in body["projections"]["problems"][0]


async def test_ready_tells_how_many_commands_wait_and_that_a_holder_is_silent(
    ledger: LedgerOnServers, http: httpx.AsyncClient
) -> None:
    partition = ledger.partition("ada")
    async with ledger.running("killed"):
        await ledger.send(command("ada", "CREDIT_ADD", 1))
        await ledger.until_events(1)
        body = (await http.get("/health/ready")).json()
        assert body["ledger_consumer"]["status"] == "ok"
    await ledger.send(command("ada", "CREDIT_ADD", 1), command("ada", "CREDIT_ADD", 1))
    # As kill -9 leaves it: the holder stays named, and says nothing any more.
    await ledger.pool.execute(
        "UPDATE ledger.partition_head SET holder = 'killed', seen_at = clock_timestamp() - interval '21 s'"
    )
    body = (await http.get("/health/ready")).json()
    assert body["consumer_partitions"][partition]["waiting"] == 2
    assert [one["waiting"] for one in body["consumer_partitions"]].count(0) == ledger.partitions - 1
    assert "killed, which holds partition 0, 1, 2, 3, has been silent" in body["ledger_consumer"]["problems"][0]


async def test_without_postgres_and_kafka_health_says_so_and_reads_answer_503() -> None:
    async def no_kafka() -> None:
        raise ConnectionError("nobody listens")

    nowhere = "postgresql://nobody:nothing@127.0.0.1:1/none"
    async with Queries(nowhere, read_wait_s=READ_WAIT_S, kafka_probe=no_kafka) as queries, serving(queries) as http:
        assert (await http.get("/health")).status_code == 200
        ready = (await http.get("/health/ready")).json()
        assert ready["kafka"]["problems"] == ["Kafka: ConnectionError: nobody listens"]
        assert ready["postgres"]["status"] == "failing"
        assert (await http.get("/balance/ada")).status_code == 503


async def test_the_documentation_shows_examples(http: httpx.AsyncClient) -> None:
    schema = (await http.get("/openapi.json")).json()
    assert {path for path in schema["paths"] if "owner" in path} == {
        "/balance/{owner_id}",
        "/ledger/{owner_id}/balance",
        "/ledger/{owner_id}/entries",
    }
    assert schema["components"]["schemas"]["BalanceBody"]["examples"][0]["balance"] == 750
