"""Read models on real Kafka and Postgres."""

from collections.abc import AsyncIterator

import pytest

from projections.registry import READ_MODELS
from projections.versions import install
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        await install(empty_database_url, READ_MODELS)
        yield running


async def test_commands_become_balances_and_statements(ledger: LedgerOnServers) -> None:
    owners = [f"owner-{number}" for number in range(20)]
    async with ledger.running(), projecting(ledger):
        await ledger.send(*(command(owner, "CREDIT_ADD", 100) for owner in owners))
        await ledger.send(*(command(owner, "CREDIT_SPEND", -30) for owner in owners))
        await ledger.send(*(command(owner, "CREDIT_SPEND", -80) for owner in owners))
        await until_projected(ledger, 60)
    balances = await ledger.pool.fetch("SELECT balance, account_version FROM projections.balances_v1")
    assert [tuple(row) for row in balances] == [(70, 2)] * 20
    lines = await ledger.pool.fetch(
        "SELECT amount, reason FROM projections.statements_v1 WHERE owner_id = 'owner-3' ORDER BY sequence"
    )
    assert [tuple(row) for row in lines] == [(100, None), (-30, None), (0, "INSUFFICIENT_CREDITS")]
