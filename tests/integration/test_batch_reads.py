"""Balances of many owners in one round trip, and statements by their key however long they are, on real servers."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import pytest_asyncio

from ledger.api_keys.store import Scope
from ledger.domain.position import Position
from producers.doors import DoorPolicy
from projections.balances import BALANCES
from projections.balances.queries import OWNERS_IN_BATCH_MAX, BalanceReader
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions, StaleReadError
from projections.statements import STATEMENTS
from tests.cli_process import cli_environment, ledger_cli
from tests.http_on_servers import HttpOnServers, http_on_servers
from tests.ledger_on_servers import command
from tests.projections_on_servers import until_projected

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

RATE_PER_S = 1
BURST = 3 * OWNERS_IN_BATCH_MAX
HISTORY_LINES = 40_000
PAGE_LINES = 50


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[HttpOnServers]:
    doors = DoorPolicy("required", rate_per_s=RATE_PER_S, burst=BURST)
    async with http_on_servers(kafka_bootstrap, postgres_server_url, doors) as running:
        await running.ledger.send(*(command(f"o{number}", "CREDIT_ADD", number + 1) for number in range(20)))
        await until_projected(running.ledger, 20)
        yield running


async def client_of(service: HttpOnServers, *scopes: Scope) -> httpx.AsyncClient:
    key = await service.make_key("example-app", *scopes)
    return httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": key}, timeout=60)


async def test_many_owners_are_answered_in_their_order(service: HttpOnServers) -> None:
    owners = ["o7", "nobody", "o0", "o19", "o7"]
    async with await client_of(service, Scope.READ) as http:
        answer = await http.get("/balances", params={"owner_id": owners})
        assert answer.status_code == 200, answer.text
        found = answer.json()["balances"]
        assert [one["owner_id"] for one in found] == owners
        assert [one["balance"] for one in found] == [8, 0, 1, 20, 8]
        singly = [(await http.get(f"/balance/{owner}")).json() for owner in owners]
        assert found == singly


async def test_the_scope_of_the_key_counts_and_each_owner_is_counted(service: HttpOnServers) -> None:
    async with await client_of(service, Scope.WRITE) as writer:
        refused = await writer.get("/balances", params={"owner_id": ["o1", "o2"]})
        assert (refused.status_code, "read" in refused.json()["detail"]) == (403, True)
    async with httpx.AsyncClient(base_url=service.url) as nobody:
        assert (await nobody.get("/balances", params={"owner_id": ["o1"]})).status_code == 401
    most = [f"o{number}" for number in range(OWNERS_IN_BATCH_MAX)]
    async with await client_of(service, Scope.READ) as reader:
        statuses = [(await reader.get("/balances", params={"owner_id": most})).status_code for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "Field required"),
        ("?owner_id=", "at least 1 character"),
        ("?owner_id=a%00b", "pattern"),
        (f"?owner_id={'a' * 129}", "at most 128 characters"),
        ("?" + "owner_id=a&" * (OWNERS_IN_BATCH_MAX + 1), f"at most {OWNERS_IN_BATCH_MAX} items"),
        ("?owner_id=a&min_position=1:2&min_position=x", "not a position"),
    ],
)
async def test_a_malformed_question_is_answered_422(service: HttpOnServers, query: str, says: str) -> None:
    async with await client_of(service) as http:
        answer = await http.get(f"/balances{query}")
    assert answer.status_code == 422
    assert says in answer.text


async def test_every_position_that_is_named_is_waited_for(service: HttpOnServers) -> None:
    ledger = service.ledger
    reader = BalanceReader(pool := ReadPool(ledger.database_url), AnsweredPositions(), 0.05)
    await pool.start()
    try:
        found = await reader.of_owners(["o1", "o2"], [found.position for found in (await reader.now(["o1"])).values()])
        assert [one.of().balance for one in found.values()] == [2, 3]
        ahead = Position(ledger.partition("o2"), 10_000)
        with pytest.raises(StaleReadError, match=f"did not reach {ahead}"):
            await reader.of_owners(["o1", "o2"], [ahead])
        other = next(p for p in range(ledger.partitions) if p not in {ledger.partition("o1"), ledger.partition("o2")})
        await reader.of_owners(["o1", "o2"], [Position(other, 10_000)])
    finally:
        await pool.stop()


async def test_many_owners_cost_one_round_trip(service: HttpOnServers) -> None:
    asked: list[str] = []

    class Counting(ReadPool):
        async def fetch(self, statement: str, *arguments: object) -> Any:
            asked.append(statement)
            return await super().fetch(statement, *arguments)

    pool = Counting(service.ledger.database_url, "one round trip")
    await pool.start()
    try:
        reader = BalanceReader(pool, AnsweredPositions(), 1.0)
        await reader.of_owner("o1")  # learns N and the active version, once for the process
        asked.clear()
        assert len(await reader.of_owners([f"o{number}" for number in range(OWNERS_IN_BATCH_MAX)])) == 200
        assert len(asked) == 1
        await reader.of_owner("o2")
        assert len(asked) == 2
        watcher = await asyncpg.connect(service.ledger.database_url)
        last = await watcher.fetchval("SELECT query FROM pg_stat_activity WHERE application_name = 'one round trip'")
        await watcher.close()
        assert "projections.balances" in last, "nothing is asked behind the caller's back, such as to reset the session"
    finally:
        await pool.stop()


async def test_the_command_line_reads_several_owners(service: HttpOnServers, tmp_path: Path) -> None:
    environment = cli_environment(service.ledger, tmp_path)
    one = await ledger_cli("balance", "o3", "--json", environment=environment)
    assert (one.code, one.document["balance"]) == (0, 4), one.err
    several = await ledger_cli("balance", "o3", "nobody", "o4", "--json", environment=environment)
    found = {one["owner_id"]: one["balance"] for one in several.document}
    assert list(found.items()) == [("o3", 4), ("nobody", 0), ("o4", 5)]
    assert "o4" in (await ledger_cli("balance", "o3", "o4", environment=environment)).out
    too_many = await ledger_cli("balance", *(["o"] * (OWNERS_IN_BATCH_MAX + 1)), environment=environment)
    assert (too_many.code, f"at most {OWNERS_IN_BATCH_MAX}" in too_many.err) == (2, True)


def scans(plan: dict[str, Any], table: str) -> Iterator[dict[str, Any]]:
    if plan.get("Relation Name") == table:
        yield plan
    for below in plan.get("Plans", ()):
        yield from scans(below, table)


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_a_page_of_a_long_statement_reads_as_many_lines_as_it_shows(service: HttpOnServers, mode: str) -> None:
    """Keyset paging: the key (owner, accepted, sequence) is walked from the cursor on, wherever in history it is."""
    partition = service.ledger.partition("o1")
    connection = await asyncpg.connect(service.ledger.database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "INSERT INTO projections.statements_v1 (partition, accepted, sequence, amount, balance_after,"
            " account_version, occurred_at, command_id, owner_id, credit_type, app, operation, nonce)"
            " SELECT $1, number % 3 > 0, 1000 + number, 1, number, number, now(), gen_random_uuid(),"
            " CASE WHEN number % 2 = 0 THEN 'busy' ELSE 'o' || number END, 'credits', 'a', 'CREDIT_ADD', 'n'"
            " FROM generate_series(1, $2::bigint) AS number",
            partition,
            HISTORY_LINES,
        )
        await connection.execute("ANALYZE projections.statements_v1")
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(
            f"PREPARE page (text, integer, bigint, boolean, integer, text) AS {STATEMENTS.sql('read_page', 1)}"
        )
        for before in (2**63 - 1, 1000 + HISTORY_LINES // 2):
            for with_rejections in (False, True):
                told = await connection.fetchval(
                    "EXPLAIN (ANALYZE, FORMAT JSON)"
                    f" EXECUTE page ('busy', {partition}, {before}, {with_rejections}, {PAGE_LINES + 1}, NULL)"
                )
                found = list(scans(json.loads(told)[0]["Plan"], "statements_v1"))
                ran = [one for one in found if one["Actual Loops"]]
                assert {one["Node Type"] for one in ran} == {"Index Scan"}, told
                assert {one["Scan Direction"] for one in ran} == {"Backward"}
                assert sum(one["Actual Rows"] for one in ran) <= (PAGE_LINES + 1) * (1 + with_rejections)
                assert sum(one.get("Rows Removed by Filter", 0) for one in ran) == 0
    finally:
        await transaction.rollback()
        await connection.close()


async def test_balances_are_read_by_their_key(service: HttpOnServers) -> None:
    connection = await asyncpg.connect(service.ledger.database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(
            "INSERT INTO projections.balances_v1 SELECT 1, 1, now(), 'x' || number, 'credits'"
            " FROM generate_series(1, $1::bigint) AS number",
            HISTORY_LINES,
        )
        await connection.execute("ANALYZE projections.balances_v1")
        told = await connection.fetchval(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {BALANCES.sql('read_balances', 1)}",
            [f"x{number}" for number in range(1, 11)],
            [0] * 10,
        )
        [scan] = scans(json.loads(told)[0]["Plan"], "balances_v1")
        assert scan["Node Type"] in {"Index Scan", "Bitmap Heap Scan"}
        assert scan["Actual Rows"] * scan["Actual Loops"] == 10
    finally:
        await transaction.rollback()
        await connection.close()
