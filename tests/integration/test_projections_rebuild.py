"""Making versions of read models from the record, while commands, workers and reads go on."""

import asyncio
import itertools
from collections.abc import AsyncIterator

import asyncpg
import pytest

from projections import versions
from projections.balances import BALANCES
from projections.queries import Queries
from projections.registry import READ_MODELS
from projections.statements import STATEMENTS
from projections.versions import FillProgress, RebuildError, install, rebuild
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import assert_read_models_equal_the_fold, projecting, until_projected

pytestmark = pytest.mark.integration
OWNERS = [f"owner-{number}" for number in range(30)]


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        yield running


async def load(ledger: LedgerOnServers, rounds: int) -> None:
    for _ in range(rounds):
        for owner in OWNERS:
            await ledger.send(command(owner, "CREDIT_ADD", 3), command(owner, "CREDIT_SPEND", -4))


async def tables(ledger: LedgerOnServers) -> list[str]:
    rows = await ledger.pool.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'projections'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    return [row["relname"] for row in rows]


async def test_a_read_model_that_is_added_later_is_filled_from_the_record(ledger: LedgerOnServers) -> None:
    async with ledger.running():
        await load(ledger, 3)
        await ledger.until_events(180)
    await install(ledger.database_url, READ_MODELS)
    await assert_read_models_equal_the_fold(ledger)
    assert await ledger.pool.fetchval("SELECT sum(sequence)::int FROM projections.checkpoint") == 2 * 180
    async with ledger.running(), projecting(ledger):
        await load(ledger, 1)
        await until_projected(ledger, 240)
    await assert_read_models_equal_the_fold(ledger)


async def test_processes_that_start_together_install_once(ledger: LedgerOnServers) -> None:
    async with ledger.running():
        await load(ledger, 1)
        await ledger.until_events(60)
    await asyncio.gather(*(install(ledger.database_url, READ_MODELS) for _ in range(4)))
    assert await tables(ledger) == ["balances_v1", "checkpoint", "read_model", "statements_v1"]
    await assert_read_models_equal_the_fold(ledger)


async def test_installing_again_changes_nothing(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running(), projecting(ledger):
        await load(ledger, 1)
        await until_projected(ledger, 60)
    before = await ledger.pool.fetch("SELECT * FROM projections.checkpoint ORDER BY 1, 2, 3")
    await install(ledger.database_url, READ_MODELS)
    assert await ledger.pool.fetch("SELECT * FROM projections.checkpoint ORDER BY 1, 2, 3") == before


async def test_rebuilding_again_and_again_under_load_never_shows_anything_old_or_nothing(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "FILL_CHUNK_EVENTS", 50)
    await install(ledger.database_url, READ_MODELS)
    reads = 0
    done = asyncio.Event()

    async def watch() -> None:
        nonlocal reads
        last_versions = dict.fromkeys(OWNERS, 0)
        last_lines = dict.fromkeys(OWNERS, 0)
        for owner in itertools.cycle(OWNERS):
            if done.is_set():
                return
            account = (await queries.balances.of_owner(owner)).of()
            assert account.account_version >= last_versions[owner], "a balance went back"
            last_versions[owner] = account.account_version
            page = await queries.statements.page(owner, limit=500, with_rejections=True)
            assert len(page.lines) >= last_lines[owner], "a statement went back"
            last_lines[owner] = len(page.lines)
            reads += 1

    async with (
        ledger.running(),
        projecting(ledger),
        Queries(ledger.database_url, read_wait_s=1, kafka_probe=ledger.admin.partition_counts) as queries,
    ):
        watching = asyncio.create_task(watch())
        loading = asyncio.create_task(load(ledger, 20))
        rebuilds = 0
        while not loading.done() or rebuilds < 3:
            for model in READ_MODELS:
                await rebuild(ledger.database_url, model)
            rebuilds += 1
            assert not watching.done(), watching.result()
        await loading
        await until_projected(ledger, 1200)
        done.set()
        await watching
    await assert_read_models_equal_the_fold(ledger)
    version = rebuilds + 1
    assert await tables(ledger) == sorted(
        [f"balances_v{version}", f"statements_v{version}", "checkpoint", "read_model"]
    )
    assert reads > 50


async def test_a_rebuild_tells_how_far_it_is_and_mends_what_something_else_broke(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "FILL_CHUNK_EVENTS", 7)
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running(), projecting(ledger):
        await load(ledger, 2)
        await until_projected(ledger, 120)
    await ledger.pool.execute("UPDATE projections.balances_v1 SET balance = 1000000")
    await ledger.pool.execute("DELETE FROM projections.statements_v1 WHERE sequence = 2")
    told: list[FillProgress] = []
    for model in READ_MODELS:
        result = await rebuild(ledger.database_url, model, told.append)
        assert (result.version, result.filled, result.total) == (2, 120, 120)
    assert [one.filled for one in told] == sorted(one.filled for one in told[: len(told) // 2]) * 2
    assert told[-1].total == 120
    await assert_read_models_equal_the_fold(ledger)


async def test_a_rebuild_that_died_leaves_the_active_version_and_the_next_one_tidies_up(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running(), projecting(ledger):
        await load(ledger, 1)
        await until_projected(ledger, 60)

        def die(progress: FillProgress) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            await rebuild(ledger.database_url, BALANCES, die)
        assert "balances_v2" in await tables(ledger)
        await load(ledger, 1)
        await until_projected(ledger, 120)
        await rebuild(ledger.database_url, BALANCES)
    assert await tables(ledger) == ["balances_v2", "checkpoint", "read_model", "statements_v1"]
    await assert_read_models_equal_the_fold(ledger)


async def test_a_record_that_lacks_events_makes_no_version(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running():
        await load(ledger, 1)
        await ledger.until_events(60)
    async with ledger.pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            "DELETE FROM ledger.event USING ledger.partition_head AS head"
            " WHERE event.partition = head.partition AND event.sequence = head.sequence"
        )
    with pytest.raises(RebuildError, match="the record lacks"):
        await rebuild(ledger.database_url, BALANCES)
    assert await ledger.pool.fetchval("SELECT active_version FROM projections.read_model WHERE name = 'balances'") == 1


async def test_two_rebuilds_do_not_run_at_once(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running():
        await load(ledger, 1)
        await ledger.until_events(60)
    refused: list[RebuildError] = []

    async def another() -> None:
        try:
            await rebuild(ledger.database_url, STATEMENTS)
        except RebuildError as error:
            refused.append(error)

    others: list[asyncio.Task[None]] = []
    await rebuild(ledger.database_url, BALANCES, lambda progress: others.append(asyncio.create_task(another())))
    await asyncio.gather(*others)
    assert "another rebuild is under way" in str(refused[0])


async def test_a_version_never_replaces_one_that_is_ahead_of_it_unless_the_ledger_was_restored(
    ledger: LedgerOnServers,
) -> None:
    await install(ledger.database_url, READ_MODELS)
    async with ledger.running(), projecting(ledger):
        await load(ledger, 1)
        await until_projected(ledger, 60)
    # As after a restore of the schema `ledger` alone: the read model has seen what the record no longer holds.
    await ledger.pool.execute(
        "UPDATE projections.checkpoint SET sequence = sequence + 5 WHERE read_model = 'balances' AND partition = 2"
    )
    with pytest.raises(RebuildError, match="ahead of the record itself"):
        await rebuild(ledger.database_url, BALANCES)
    assert await ledger.pool.fetchval("SELECT active_version FROM projections.read_model WHERE name = 'balances'") == 1
    await rebuild(ledger.database_url, BALANCES, after_restore=True)
    await assert_read_models_equal_the_fold(ledger)
    async with ledger.running(), projecting(ledger) as worker:
        await load(ledger, 1)
        await until_projected(ledger, 120)
        assert worker.status().halted == {}
    await assert_read_models_equal_the_fold(ledger)


async def test_a_worker_that_is_frozen_inside_a_batch_does_not_stop_a_rebuild(ledger: LedgerOnServers) -> None:
    await install(ledger.database_url, READ_MODELS)
    frozen = await asyncpg.connect(ledger.database_url)
    await frozen.execute("BEGIN")
    await frozen.execute("SELECT FROM projections.checkpoint FOR UPDATE")
    await rebuild(ledger.database_url, BALANCES)
    frozen.terminate()


async def test_a_read_model_that_is_not_installed_is_named(ledger: LedgerOnServers) -> None:
    with pytest.raises(RebuildError, match="balances is not installed"):
        await rebuild(ledger.database_url, BALANCES)


async def test_a_long_read_of_the_old_version_holds_up_neither_the_rebuild_nor_other_reads(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "DROP_ATTEMPTS_MAX", 2)
    await install(ledger.database_url, READ_MODELS)
    async with (
        ledger.pool.acquire() as reading,
        reading.transaction(),
        Queries(ledger.database_url, read_wait_s=1, kafka_probe=ledger.admin.partition_counts) as queries,
    ):
        await reading.fetch("SELECT * FROM projections.balances_v1")
        rebuilding = asyncio.create_task(rebuild(ledger.database_url, BALANCES))
        while not rebuilding.done():
            async with asyncio.timeout(2):
                await queries.balances.of_owner("ada")
        await rebuilding
        assert "balances_v1" in await tables(ledger)
    await rebuild(ledger.database_url, BALANCES)
    assert await tables(ledger) == ["balances_v3", "checkpoint", "read_model", "statements_v1"]


async def test_a_reader_that_knows_an_older_version_shows_the_active_one_though_the_old_tables_are_still_there(
    ledger: LedgerOnServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would show old rows beside the new checkpoint, and take them for what the checkpoint says."""
    monkeypatch.setattr(versions, "DROP_ATTEMPTS_MAX", 1)
    await install(ledger.database_url, READ_MODELS)
    async with (
        ledger.pool.acquire() as reading,
        reading.transaction(),
        Queries(ledger.database_url, read_wait_s=10, kafka_probe=ledger.admin.partition_counts) as queries,
    ):
        assert (await queries.balances.of_owner("ada")).of().balance == 0
        assert (await queries.statements.page("ada", limit=5)).lines == ()
        for model in READ_MODELS:
            await reading.fetch(f"SELECT * FROM projections.{model.name}_v1")
            await rebuild(ledger.database_url, model)
            assert f"{model.name}_v1" in await tables(ledger)
        async with ledger.running(), projecting(ledger):
            await ledger.send(command("ada", "CREDIT_ADD", 7))
            await until_projected(ledger, 1)
        assert (await queries.balances.of_owner("ada")).of().balance == 7
        assert len((await queries.statements.page("ada", limit=5)).lines) == 1
