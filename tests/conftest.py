"""Fixtures of every suite. A test that asks for none of the servers starts none."""

from collections.abc import AsyncIterator, Iterator

import pytest

from service.stack import Addresses
from tests.servers import fresh_database, ledger_template, running_servers


@pytest.fixture(scope="session")
def servers() -> Iterator[Addresses]:
    """Kafka and Postgres, started once for the session and gone after it."""
    with running_servers() as addresses:
        yield addresses


@pytest.fixture(scope="session")
def kafka_bootstrap(servers: Addresses) -> str:
    """`host:port` of a broker that makes no topics by itself. All tests share it: name topics uniquely."""
    return servers.kafka_bootstrap_servers


@pytest.fixture(scope="session")
def postgres_server_url(servers: Addresses) -> str:
    """URL of the server's owner, who may create databases and roles. Leave the database it names alone."""
    return servers.database_url


@pytest.fixture
async def empty_database_url(postgres_server_url: str) -> AsyncIterator[str]:
    """URL of a database of this test alone, empty at first, dropped afterwards."""
    async with fresh_database(postgres_server_url) as url:
        yield url


@pytest.fixture(scope="session")
def ledger_template_name(postgres_server_url: str) -> Iterator[str]:
    """A database with a new ledger, made once: migrating for every test would take longer than most tests."""
    with ledger_template(postgres_server_url) as name:
        yield name


@pytest.fixture
async def ledger_database_url(postgres_server_url: str, ledger_template_name: str) -> AsyncIterator[str]:
    """URL of a migrated and initialised ledger (TEST_PARTITIONS partitions) of this test alone, dropped afterwards."""
    async with fresh_database(postgres_server_url, template=ledger_template_name) as url:
        yield url
