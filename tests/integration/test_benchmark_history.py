"""What the benchmark fills a ledger with is a ledger: the ledger itself goes on from there, and `ledger verify` finds
nothing wrong."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from benchmarks.backlog import measure_backlog
from benchmarks.catch_up import measure_catch_up
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import FreshLedger, drop_template, fresh_ledger
from benchmarks.history import fill_history
from benchmarks.rebuild import measure_rebuild
from benchmarks.servers import Servers
from benchmarks.sizes import QUICK, Backlog
from ledger.broker.kafka_servers import KafkaServers
from service.stack import Addresses
from service.verification.everything import Everything, verify_everything

pytestmark = pytest.mark.integration

EVENTS, OWNERS, COMMANDS = 6_000, 300, 400
KEYS = """
    SELECT relname, indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = 'ledger'::regnamespace ORDER BY 1, 2
"""


@pytest.fixture
async def ledger(servers: Addresses, tmp_path: Path) -> AsyncIterator[FreshLedger]:
    benched = Servers("test", servers, KafkaServers(servers.kafka_bootstrap_servers), {}, tmp_path)
    try:
        async with fresh_ledger(benched) as fresh:
            yield fresh
    finally:
        await drop_template(benched)


async def verified(ledger: FreshLedger) -> Everything:
    connection = await asyncpg.connect(ledger.database_url)
    try:
        return await verify_everything(connection, None, ledger.topics, lambda *_: None)
    finally:
        await connection.close()


async def keys(ledger: FreshLedger) -> list[tuple[str, ...]]:
    connection = await asyncpg.connect(ledger.database_url)
    try:
        return [tuple(row) for row in await connection.fetch(KEYS)]
    finally:
        await connection.close()


async def test_a_filled_ledger_is_a_ledger(ledger: FreshLedger) -> None:
    before = await keys(ledger)
    await fill_history(ledger, EVENTS, OWNERS, lambda *_: None)
    assert await keys(ledger) == before
    found = await verified(ledger)
    assert (found.record.events, found.record.accounts) == (EVENTS, OWNERS)

    # The ledger's own processes go on with it, and a read model can be made anew beside its readers.
    sizes = replace(QUICK, backlog_commands=COMMANDS, backlog_owners=50, history_owners=OWNERS)
    figures = Figures()
    await measure_backlog(ledger, Backlog("backlog", "uniform", "_at_6000", on_history=True), sizes, 0, figures)
    await measure_rebuild(ledger, OWNERS, figures)
    assert {"backlog", "claim_at_6000_s", "consumer_rss_at_6000_mb", "rebuild"} <= {figure.name for figure in figures}
    assert (await verified(ledger)).record.events == EVENTS + COMMANDS


async def test_a_worker_catches_up_from_nothing(ledger: FreshLedger) -> None:
    sizes = replace(QUICK, backlog_commands=COMMANDS, backlog_owners=50)
    figures = Figures()
    await measure_backlog(ledger, Backlog("backlog", "zipf", ""), sizes, 0, figures)
    await measure_catch_up(ledger, figures)
    assert "catch_up" in {figure.name for figure in figures}
    assert (await verified(ledger)).record.events == COMMANDS
