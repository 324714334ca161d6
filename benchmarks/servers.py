"""Kafka and Postgres for the benchmark: servers of its own, as durable as those of `make run`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger.broker.kafka_servers import KafkaServers
from ledger.settings import Settings
from service.stack import Addresses, remove_state, resolve

Say = Callable[[str], None]


@dataclass(slots=True)
class Servers:
    """Running servers."""

    stack: str
    addresses: Addresses
    kafka: KafkaServers
    pids: dict[str, int]
    """`kafka` and `postgres`, where they are processes of this machine that we started; otherwise not measured."""

    home: Path
    template: str | None = None
    """The database that new ledgers are copied from, once there is one."""


@asynccontextmanager
async def running_servers(home: Path, say: Say, *, keep: bool = False) -> AsyncIterator[Servers]:
    """Start them, and delete all that they kept at the end, unless told to `keep` it.

    Local processes unless LEDGER_STACK says otherwise: their CPU can be measured, and they share nothing with a ledger
    that runs on this machine. `purpose="run"`: Postgres waits for the disk at every commit.
    """
    settings = Settings()
    database = settings.database(settings.database_url)
    choice = "local" if settings.stack == "auto" and database is None else settings.stack
    security = settings.kafka_security()
    stack = resolve(
        choice, settings.kafka_bootstrap_servers, database, home, purpose="run", kafka_security=security
    ).stack
    addresses = await stack.start(say)
    try:
        status = await stack.status()
        kafka = KafkaServers(addresses.kafka_bootstrap_servers, security)
        pids: dict[str, int] = {one.server: one.pid for one in status if one.pid is not None}
        yield Servers(stack.name, addresses, kafka, pids, home)
    finally:
        await stack.stop(say)
        if stack.name == "local" and not keep:
            await remove_state(home, say)
