"""Projection workers of a test's own, beside a ledger of its own on the real servers."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from ledger.broker.kafka_membership import KafkaMembership
from ledger.broker.kafka_reader import KafkaRecordReader
from projections.postgres_store import PostgresProjectionStore
from projections.read_model import ReadModel
from projections.registry import READ_MODELS
from projections.store import ProjectionStore
from projections.worker import ProjectionWorker
from tests.ledger_on_servers import WAIT_S, LedgerOnServers

CHECKPOINTS = """
    SELECT coalesce(sum(checkpoint.sequence), 0)::bigint FROM projections.checkpoint
    JOIN projections.read_model ON name = read_model AND active_version = version
    WHERE read_model = $1
"""


def worker(
    ledger: LedgerOnServers,
    holder: str = "one",
    read_models: Sequence[ReadModel] = READ_MODELS,
    store: ProjectionStore | None = None,
) -> ProjectionWorker:
    """A worker that has not started."""
    return ProjectionWorker(
        events_topic=ledger.topics.events,
        membership=KafkaMembership(ledger.bootstrap, ledger.topics.projection_group(), ledger.topics.events),
        reader=KafkaRecordReader(ledger.bootstrap),
        store=store or PostgresProjectionStore(ledger.database_url, read_models, f"test worker {holder}"),
        read_models=[model.name for model in read_models],
        holder=holder,
        random=random.Random(holder),
    )


@asynccontextmanager
async def projecting(
    ledger: LedgerOnServers,
    holder: str = "one",
    read_models: Sequence[ReadModel] = READ_MODELS,
    store: ProjectionStore | None = None,
) -> AsyncIterator[ProjectionWorker]:
    """A worker that runs, and stops orderly."""
    running = worker(ledger, holder, read_models, store)
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


async def assert_read_models_equal_the_fold(ledger: LedgerOnServers) -> None:
    """Invariant 9, by a fold that shares nothing with the code under test."""
    events = await ledger.events()
    reached = {
        (row["read_model"], row["partition"]): (row["version"], row["sequence"], row["hash"].hex())
        for row in await ledger.pool.fetch(
            "SELECT read_model, version, partition, sequence, hash FROM projections.checkpoint "
            "JOIN projections.read_model ON name = read_model AND active_version = version"
        )
    }
    hashes = {(event.partition, event.sequence): event.hash for event in events}
    for (_, partition), (_, sequence, last_hash) in reached.items():
        assert last_hash == hashes.get((partition, sequence), "0" * 64)
    version = reached["balances", 0][0]
    expected: dict[tuple[str, str], tuple[int, int, object]] = {}
    for event in events:
        if event.sequence <= reached["balances", event.partition][1] and event.reason is None:
            balance, entries, _ = expected.get((event.owner_id, event.credit_type), (0, 0, None))
            expected[event.owner_id, event.credit_type] = (balance + event.amount, entries + 1, event.occurred_at)
    rows = await ledger.pool.fetch(f"SELECT * FROM projections.balances_v{version}")
    assert {
        (row["owner_id"], row["credit_type"]): (row["balance"], row["account_version"], row["last_updated"])
        for row in rows
    } == expected
    version = reached["statements", 0][0]
    rows = await ledger.pool.fetch(f"SELECT * FROM projections.statements_v{version} ORDER BY partition, sequence")
    names = list(rows[0].keys()) if rows else []  # every column is named like the event's field
    assert [[row[name] for name in names] for row in rows] == [
        [getattr(event, name) for name in names]
        for event in events
        if event.sequence <= reached["statements", event.partition][1]
    ]
