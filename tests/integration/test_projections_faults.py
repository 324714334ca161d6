"""Projection workers that stop, die, freeze and come back, on real servers: nothing lost, doubled or out of order."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack

import asyncpg
import pytest

from ledger.broker.protocol import OutgoingRecord
from ledger.domain.event import RecordedEvent
from ledger.messages.event_codec import encode_event
from projections.postgres_store import PostgresProjectionStore
from projections.registry import READ_MODELS
from projections.versions import install
from tests.contract.cut_connection import cut_at_commit
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projection_process import projection_process
from tests.projections_in_memory import forged
from tests.projections_on_servers import (
    assert_read_models_equal_the_fold,
    projecting,
    until,
    until_projected,
)

pytestmark = pytest.mark.integration
MOVED_WITHIN_S = 10.0
OWNERS = [f"owner-{number}" for number in range(40)]
HOLDERS = "SELECT array_agg(DISTINCT holder ORDER BY holder) FROM projections.checkpoint"


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url, partitions=6) as running:
        await install(empty_database_url, READ_MODELS)
        yield running


async def load(ledger: LedgerOnServers, rounds: int) -> None:
    """A credit and a debit, which is refused at times, to every owner a round."""
    for _ in range(rounds):
        for owner in OWNERS:
            await ledger.send(command(owner, "CREDIT_ADD", 1), command(owner, "CREDIT_SPEND", -2))
        await asyncio.sleep(0)


async def republish(ledger: LedgerOnServers, *events: RecordedEvent) -> int:
    """Publish these once more; the offset behind the last."""
    offset = 0
    for event in events:
        record = OutgoingRecord(event.owner_id.encode(), encode_event(event))
        offset = await ledger.publisher.publish(ledger.topics.events, event.partition, [record])
    return offset + 1


@pytest.mark.parametrize("fault", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP], ids=lambda fault: fault.name)
async def test_partitions_move_within_ten_seconds_when_a_worker_is_stopped_killed_or_frozen(
    ledger: LedgerOnServers, fault: signal.Signals
) -> None:
    with ExitStack() as stack:
        doomed = stack.enter_context(projection_process(ledger, "doomed"))
        stack.enter_context(projection_process(ledger, "heir"))
        await ledger.until(HOLDERS, ["doomed", "heir"])
        async with ledger.running():
            loading = asyncio.create_task(load(ledger, 10))
            await asyncio.sleep(0.3)
            doomed.send_signal(fault)
            began = time.monotonic()
            await ledger.until(HOLDERS, ["heir"])
            assert time.monotonic() - began < MOVED_WITHIN_S
            await loading
            if fault is signal.SIGSTOP:
                doomed.send_signal(signal.SIGCONT)  # it is fenced, and joins again
                await load(ledger, 1)
                await ledger.until(HOLDERS, ["doomed", "heir"])
            events = len(OWNERS) * 2 * (11 if fault is signal.SIGSTOP else 10)
            await until_projected(ledger, events)
    await assert_read_models_equal_the_fold(ledger)


async def test_a_holder_that_is_frozen_inside_a_transaction_does_not_stop_its_heir(ledger: LedgerOnServers) -> None:
    frozen = await asyncpg.connect(ledger.database_url)
    transaction = frozen.transaction()
    await transaction.start()
    await frozen.execute("SELECT FROM projections.checkpoint FOR UPDATE")
    async with ledger.running(), projecting(ledger):
        await ledger.send(command("ada", "CREDIT_ADD", 1))
        await until_projected(ledger, 1)
    frozen.terminate()


async def test_a_gap_a_duplicate_and_another_hash_on_the_real_topic(ledger: LedgerOnServers) -> None:
    async with ledger.running():
        for _ in range(4):
            await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))
        await ledger.until_events(4 * len(OWNERS))
        await ledger.until_published()
    events = await ledger.events()
    partition = ledger.partition(OWNERS[0])
    own = [event for event in events if event.partition == partition]
    async with projecting(ledger) as worker:
        await until_projected(ledger, len(events))
        await assert_read_models_equal_the_fold(ledger)
        end = await republish(ledger, *own, own[3])
        await ledger.until("SELECT min(next_offset) FROM projections.checkpoint WHERE partition = $1", end, partition)
        assert worker.status().halted == {}
        await republish(ledger, forged(own[1]))
        await ledger.until(
            "SELECT count(*) FROM projections.checkpoint WHERE halted_because IS NOT NULL", len(READ_MODELS)
        )
        assert {key.partition for key in worker.status().halted} == {partition}
        other = next(owner for owner in OWNERS if ledger.partition(owner) != partition)
        async with ledger.running():
            await ledger.send(command(other, "CREDIT_ADD", 1))
            await until_projected(ledger, len(events) + 1)
    await assert_read_models_equal_the_fold(ledger)


@pytest.mark.parametrize("commit_arrives", [True, False])
async def test_a_connection_that_breaks_during_commit_loses_and_doubles_nothing(
    ledger: LedgerOnServers, commit_arrives: bool
) -> None:
    async with cut_at_commit(ledger.database_url, commit_arrives=commit_arrives) as (url, knife):
        store = PostgresProjectionStore(url, READ_MODELS, "test worker behind a knife")
        async with ledger.running(), projecting(ledger, store=store) as worker:
            await load(ledger, 1)
            await until_projected(ledger, 80)
            knife.set()
            await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))
            await until(lambda: worker.status().away is not None, "a broken connection")
            knife.clear()
            await until_projected(ledger, 120)
    await assert_read_models_equal_the_fold(ledger)


async def test_connections_that_are_ended_again_and_again_lose_and_double_nothing(ledger: LedgerOnServers) -> None:
    async with ledger.running(), projecting(ledger) as worker:
        loading = asyncio.create_task(load(ledger, 8))
        ended = 0
        while not loading.done() or ended <= 2:  # a quick load is over before that
            ended += await ledger.pool.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name LIKE 'test worker%'"
            )
            await asyncio.sleep(0.2)
        await loading
        await until_projected(ledger, 8 * 2 * len(OWNERS))
        assert worker.status().halted == {}
    assert ended > 2
    await assert_read_models_equal_the_fold(ledger)
