"""A read model of one's own, as the guide adds it: one folder and one line, and nothing else changes."""

from collections.abc import AsyncIterator

import pytest

from docs.examples.daily_totals import DAILY_TOTALS
from projections.registry import READ_MODELS
from projections.versions import install, rebuild
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import CHECKPOINTS, assert_read_models_equal_the_fold, projecting, until_projected

pytestmark = pytest.mark.integration
ALL = (*READ_MODELS, DAILY_TOTALS)
TOTALS = "SELECT operation, sum(entries)::int, sum(rejections)::int, sum(amount)::int FROM {} GROUP BY 1 ORDER BY 1"


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        yield running


async def load(ledger: LedgerOnServers) -> None:
    owners = [f"owner-{number}" for number in range(12)]
    await ledger.send(*(command(owner, "CREDIT_ADD", 10) for owner in owners))
    await ledger.send(*(command(owner, "CREDIT_SPEND", -6) for owner in [*owners, *owners]))


async def totals(ledger: LedgerOnServers, version: int) -> list[tuple[object, ...]]:
    rows = await ledger.pool.fetch(TOTALS.format(f"projections.daily_totals_v{version}"))
    return [tuple(row) for row in rows]


async def test_a_read_model_is_added_beside_others_fed_and_rebuilt(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running(), projecting(ledger):
        await load(ledger)
        await until_projected(ledger, 36)

    await install(ledger.database_url, ALL)  # as `ledger migrate` does after the line was added
    filled = [("CREDIT_ADD", 12, 0, 120), ("CREDIT_SPEND", 12, 12, -72)]
    assert await totals(ledger, 1) == filled

    async with ledger.running(), projecting(ledger, read_models=ALL):
        await load(ledger)
        await until_projected(ledger, 72)
        await ledger.until(CHECKPOINTS, 72, "daily_totals")
        fed = await totals(ledger, 1)
        assert fed == [("CREDIT_ADD", 24, 0, 240), ("CREDIT_SPEND", 36, 12, -216)]
        await rebuild(ledger.database_url, DAILY_TOTALS)
    assert await totals(ledger, 2) == fed
    await assert_read_models_equal_the_fold(ledger)


async def test_fed_and_filled_rows_are_the_same(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, ALL)
    async with ledger.running(), projecting(ledger, read_models=ALL):
        await load(ledger)
        await ledger.until(CHECKPOINTS, 36, "daily_totals")
    fed = await ledger.pool.fetch("SELECT * FROM projections.daily_totals_v1 ORDER BY 1, 2, 3, 4, 5")
    await rebuild(ledger.database_url, DAILY_TOTALS)
    filled = await ledger.pool.fetch("SELECT * FROM projections.daily_totals_v2 ORDER BY 1, 2, 3, 4, 5")
    assert fed == filled
    assert len(fed) > 1
