"""Projection workers of a test's own, beside a ledger of its own on the real servers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import RecordReader
from projections.postgres_store import PostgresProjectionStore
from projections.registry import READ_MODELS
from projections.worker import ProjectionWorker
from tests.ledger_on_servers import WAIT_S, LedgerOnServers

CHECKPOINTS = """
    SELECT coalesce(sum(checkpoint.sequence), 0)::bigint FROM projections.checkpoint
    JOIN projections.read_model ON name = read_model AND active_version = version
    WHERE read_model = $1
"""


def worker(ledger: LedgerOnServers, holder: str = "one", reader: RecordReader | None = None) -> ProjectionWorker:
    """A worker that has not started."""
    return ProjectionWorker(
        events_topic=ledger.topics.events,
        membership=KafkaMembership(ledger.bootstrap, ledger.topics.projection_group(), ledger.topics.events),
        reader=reader or KafkaRecordReader(ledger.bootstrap),
        store=PostgresProjectionStore(ledger.database_url, READ_MODELS, f"test worker {holder}"),
        read_models=[model.name for model in READ_MODELS],
        holder=holder,
        random=random.Random(holder),
    )


@asynccontextmanager
async def projecting(
    ledger: LedgerOnServers, holder: str = "one", reader: RecordReader | None = None
) -> AsyncIterator[ProjectionWorker]:
    """A worker that runs, and stops orderly."""
    running = worker(ledger, holder, reader)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stop()
        await asyncio.wait_for(task, WAIT_S)


async def until_projected(ledger: LedgerOnServers, events: int) -> None:
    """Wait until every read model has taken so many events."""
    for model in READ_MODELS:
        await ledger.until(CHECKPOINTS, events, model.name)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds."""
    deadline = asyncio.get_running_loop().time() + WAIT_S
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"not within {WAIT_S} s: {what}"
        await asyncio.sleep(0.02)
