"""What a test of a contract is given: the record in memory and in Postgres, a cluster in memory and a real one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.contract.clusters import Cluster, InMemoryCluster, kafka_cluster
from tests.contract.records import ALWAYS_AT_ONCE, ALWAYS_BY_COPY, Record, RecordInMemory, RecordInPostgres


@pytest.fixture
def memory() -> RecordInMemory:
    """A record in memory."""
    return RecordInMemory()


@pytest.fixture
async def postgres(ledger_database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[RecordInPostgres]:
    """A record in Postgres, to which every batch of a test is written in one statement, unless the test asks for
    another largest size of such batches."""
    in_one_statement_max: int = getattr(request, "param", ALWAYS_AT_ONCE)
    async with _record_in_postgres(ledger_database_url, in_one_statement_max) as record:
        yield record


@pytest.fixture
async def postgres_by_copy(ledger_database_url: str) -> AsyncIterator[RecordInPostgres]:
    """A record in Postgres to which every batch is written by COPY, however small."""
    async with _record_in_postgres(ledger_database_url, ALWAYS_BY_COPY) as record:
        yield record


@asynccontextmanager
async def _record_in_postgres(url: str, in_one_statement_max: int) -> AsyncIterator[RecordInPostgres]:
    connection = await asyncpg.connect(url)
    record = RecordInPostgres(url, connection, in_one_statement_max)
    try:
        yield record
    finally:
        for store in record.stores:
            await store.stop()
        await connection.close()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("postgres", marks=pytest.mark.integration),
        pytest.param("postgres_by_copy", marks=pytest.mark.integration),
    ]
)
def record(request: pytest.FixtureRequest) -> Record:
    """Each of them, one after the other."""
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
