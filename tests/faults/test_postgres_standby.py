"""The primary is lost under load, and a standby takes its place: one that has everything, and one that lags behind."""

import time
from collections.abc import AsyncIterator

import pytest

from projections.registry import READ_MODELS
from projections.versions import install
from tests.consumer_process import consumer_process
from tests.ledger_on_servers import LedgerOnServers, ledger_on_servers
from tests.postgres_copies import PostgresCopies, postgres_copies
from tests.projection_process import projection_process
from tests.projections_on_servers import assert_read_models_equal_the_fold, until_projected
from tests.servers import say
from tests.steady_load import SteadyLoad, assert_nothing_lost_or_doubled, steady_load

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

OWNERS = [f"owner-{number}" for number in range(24)]
FOLLOWS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
HALTED = "SELECT count(*) FROM ledger.partition_head WHERE halted_because LIKE '%' || $1 || '%'"


@pytest.fixture
async def copies() -> AsyncIterator[PostgresCopies]:
    async with postgres_copies() as made:
        yield made


async def start_with_standby(copies: PostgresCopies) -> None:
    await copies.start_primary()
    await copies.base_backup("standby", standby=True)
    await copies.start_copy("standby")
    await copies.until("primary", FOLLOWS, 1)


async def test_a_synchronous_standby_is_promoted_and_everything_goes_on_by_itself(
    copies: PostgresCopies, kafka_bootstrap: str
) -> None:
    await start_with_standby(copies)
    await copies.execute("primary", "ALTER SYSTEM SET synchronous_standby_names = '*'")
    await copies.execute("primary", "SELECT pg_reload_conf()")
    await copies.until("primary", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1)
    url = copies.url("primary", "standby")
    async with ledger_on_servers(kafka_bootstrap, url, partitions=6) as ledger:
        await install(url, READ_MODELS)
        with consumer_process(ledger, "one"), projection_process(ledger, "one"):
            async with steady_load(ledger, OWNERS) as load:
                await load.until_more()
                killed_at = copies.kill("primary")
                await copies.execute("standby", "SELECT pg_promote()")
                promoted_at = time.monotonic()
                all_went_on_s = await load.until_every_owner_goes_on(killed_at)
                await load.until_more(len(OWNERS) * 2)
            _, answered_s = load.longest_silence_s(killed_at)
            say(
                f"the primary was killed, the standby promoted after {promoted_at - killed_at:.1f} s: no outcome for "
                f"{answered_s:.1f} s, every owner went on after {all_went_on_s:.1f} s; "
                f"{len(load.acknowledged)} commands"
            )
            await assert_nothing_lost_or_doubled(ledger, load)
            await until_projected(ledger, len(load.acknowledged))
            await assert_read_models_equal_the_fold(ledger)


async def test_a_standby_that_lost_events_is_not_gone_on_with(copies: PostgresCopies, kafka_bootstrap: str) -> None:
    await start_with_standby(copies)
    url = copies.url("primary", "standby")
    async with ledger_on_servers(kafka_bootstrap, url, partitions=6) as ledger:
        await install(url, READ_MODELS)
        with consumer_process(ledger, "one"), projection_process(ledger, "one"):
            await lose_a_tail(copies, ledger)
            # The consumer that was running knows what it has committed, whatever is published.
            await ledger.until(HALTED, ledger.partitions, "was committed")
            missing = await ledger.pool.fetchval(
                "SELECT halted_because FROM ledger.partition_head ORDER BY partition LIMIT 1"
            )
            say(f"the running consumer: {missing}")
            head = await ledger.pool.fetchval("SELECT sequence FROM ledger.partition_head WHERE partition = 0")
            assert f"events 0:{head + 1} to 0:" in missing or f"event 0:{head + 1} is" in missing
            assert "docs/operating.md, 'A restored database'" in missing
            # So do the read models: they take nothing that the record lacks.
            await ledger.until(
                "SELECT count(DISTINCT partition) FROM projections.checkpoint WHERE halted_because LIKE '%lacks%'",
                ledger.partitions,
            )
        before = await ledger.pool.fetchval("SELECT count(*) FROM ledger.event")
        with consumer_process(ledger, "another"):
            # One that begins anew knows it from what is published.
            await ledger.until(HALTED, ledger.partitions, "are missing: the database was restored")
            await ledger.until("SELECT count(*) FROM ledger.partition_head WHERE holder = 'another'", ledger.partitions)
        assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.event") == before
        await assert_read_models_equal_the_fold(ledger)


async def lose_a_tail(copies: PostgresCopies, ledger: LedgerOnServers) -> None:
    """The standby stops following; events go on, are published and projected; the primary is lost."""
    async with steady_load(ledger, OWNERS) as load:
        await load.until_more(2 * len(OWNERS))
        await copies.execute("standby", "ALTER SYSTEM SET primary_conninfo = ''")
        await copies.execute("standby", "SELECT pg_reload_conf()")
        await copies.until("primary", FOLLOWS, 0)
        await until_each_partition_moves(ledger, load)
    await ledger.until("SELECT count(*) FROM ledger.event", len(load.acknowledged))
    await ledger.until_published()
    await until_projected(ledger, len(load.acknowledged))
    copies.kill("primary")
    await copies.execute("standby", "SELECT pg_promote()")
    kept = await ledger.pool.fetchval("SELECT count(*) FROM ledger.event")
    say(f"{len(load.acknowledged)} events were committed, the standby holds {kept}")
    assert 0 < kept < len(load.acknowledged)


async def until_each_partition_moves(ledger: LedgerOnServers, load: SteadyLoad) -> None:
    """Wait until every partition has at least two more events than now."""
    for head in await ledger.pool.fetch("SELECT partition, sequence FROM ledger.partition_head"):
        moved = "SELECT sequence > $2 FROM ledger.partition_head WHERE partition = $1"
        await ledger.until(moved, True, head["partition"], head["sequence"] + 1)
