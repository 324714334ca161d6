"""Fixtures of every suite. A test that asks for none of the servers starts none."""

from collections.abc import AsyncIterator, Iterator

import pytest

from service.stack import Addresses
from tests.servers import fresh_database, running_servers


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
