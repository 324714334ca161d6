"""The record that a test of the contract is given: in memory, and in Postgres."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

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
