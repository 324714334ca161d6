"""What a test of a contract is given: the record in memory and in Postgres, a cluster in memory and a real one."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.contract.clusters import Cluster, InMemoryCluster, kafka_cluster
from tests.contract.records import Record, RecordInMemory, RecordInPostgres


@pytest.fixture
def memory() -> RecordInMemory:
    """A record in memory."""
    return RecordInMemory()


@pytest.fixture
async def postgres(ledger_database_url: str) -> AsyncIterator[RecordInPostgres]:
    """A record in Postgres."""
    connection = await asyncpg.connect(ledger_database_url)
    record = RecordInPostgres(ledger_database_url, connection)
    try:
        yield record
    finally:
        for store in record.stores:
            await store.stop()
        await connection.close()


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.integration)])
def record(request: pytest.FixtureRequest) -> Record:
    """Both of them, one after the other."""
    found: Record = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["in_memory", pytest.param("kafka", marks=pytest.mark.integration)])
def cluster_bootstrap(request: pytest.FixtureRequest) -> str | None:
    """Address of the real cluster, None for the in-memory one."""
    if request.param == "in_memory":
        return None
    bootstrap: str = request.getfixturevalue("kafka_bootstrap")
    return bootstrap


@pytest.fixture
async def cluster(cluster_bootstrap: str | None) -> AsyncIterator[Cluster]:
    """A cluster of each implementation, one after the other."""
    if cluster_bootstrap is None:
        yield InMemoryCluster()
    else:
        async with kafka_cluster(cluster_bootstrap) as real:
            yield real
