"""Another ledger's database appears under the address of this one, while everything runs."""

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest

from ledger.event_store.protocol import ForeignLedgerError
from projections.read_pool import ReadPool
from projections.registry import READ_MODELS
from projections.versions import install
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until, until_projected

pytestmark = pytest.mark.integration
HEADS = "SELECT partition, epoch, sequence, seen_at FROM ledger.partition_head ORDER BY 1"


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        await install(empty_database_url, READ_MODELS)
        yield running


async def answer_as(ledger: LedgerOnServers, ledger_id: UUID) -> None:
    """From now on the database is that ledger's, and whoever is connected has to connect again."""
    async with ledger.pool.acquire() as connection:
        await connection.execute("UPDATE ledger.ledger_identity SET ledger_id = $1", ledger_id)
        await connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


async def test_nothing_is_read_or_written_there_and_work_goes_on_when_the_right_one_is_back(
    ledger: LedgerOnServers,
) -> None:
    pool = ReadPool(ledger.database_url)
    await pool.start()
    try:
        async with ledger.running() as one, projecting(ledger) as worker:
            await ledger.send(command("ada", "CREDIT_ADD", 1))
            await until_projected(ledger, 1)
            await pool.partition("ada")
            ours = await ledger.pool.fetchval("SELECT ledger_id FROM ledger.ledger_identity")
            await answer_as(ledger, uuid4())
            before = await ledger.pool.fetch(HEADS)
            await ledger.send(command("ada", "CREDIT_ADD", 2))
            await until(lambda: "FOREIGN LEDGER" in (worker.status().away or ""), "the worker refuses")
            with pytest.raises(ForeignLedgerError, match="put the right database back"):
                await pool.fetch("SELECT 1")
            await until(lambda: "FOREIGN LEDGER" in (one._away.because or ""), "the consumer refuses")
            assert await ledger.pool.fetch(HEADS) == before
            await answer_as(ledger, ours)
            await until_projected(ledger, 2)
            assert await pool.fetch("SELECT 1")
            assert await ledger.pool.fetchval("SELECT count(halted_because) FROM ledger.partition_head") == 0
    finally:
        await pool.stop()
