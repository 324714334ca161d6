"""The event table in parts: appends go over their edges; a full one goes to another disk beside a working ledger."""

import asyncio
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from projections.registry import READ_MODELS
from projections.versions import install, rebuild
from tests.cli_process import ROOT, cli_environment, ledger_cli
from tests.docs_pages import text_of
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected
from tests.servers import fresh_database

pytestmark = pytest.mark.integration

PART_SEQUENCES = 8
OF_A_LEDGER = "4194304"
"""As the migration and the page have it."""


@pytest.fixture
async def cold(postgres_server_url: str) -> AsyncIterator[str]:
    """A tablespace of the test's own."""
    name = f"cold_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(postgres_server_url)
    await connection.execute("SET allow_in_place_tablespaces = on")
    await connection.execute(f"CREATE TABLESPACE {name} LOCATION ''")
    await connection.execute(f"GRANT CREATE ON TABLESPACE {name} TO public")
    yield name
    await connection.execute(f"DROP TABLESPACE {name}")
    await connection.close()


@pytest.fixture
async def ledger(kafka_bootstrap: str, postgres_server_url: str, cold: str) -> AsyncIterator[LedgerOnServers]:
    """Two partitions, and parts of a few sequences."""
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url, partitions=2) as made,
    ):
        function = (ROOT / "alembic/sql/0001/30_ensure_event_part.up.sql").read_text()
        async with made.pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL ROLE ledger_owner")
            await connection.execute("DROP TABLE ledger.event_000000")
            await connection.execute(
                function.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION").replace(
                    OF_A_LEDGER, str(PART_SEQUENCES)
                )
            )
            await connection.execute("SELECT ledger.ensure_event_part(1)")
        await install(database_url, READ_MODELS)
        yield made


async def send(ledger: LedgerOnServers, count: int) -> None:
    for number in range(count):
        await ledger.send(command(f"owner-{number}", "CREDIT_ADD", 10))


async def test_a_full_part_is_put_on_another_disk_while_the_ledger_works(
    ledger: LedgerOnServers, cold: str, tmp_path: Path
) -> None:
    environment = cli_environment(ledger, tmp_path)
    async with ledger.running(), projecting(ledger):
        await send(ledger, 40)
        await until_projected(ledger, 40)
        parts = await ledger.pool.fetchval("SELECT count(*) FROM pg_partition_tree('ledger.event') WHERE isleaf")
        assert parts >= 3, "appends went over the edges of parts"

        section = text_of("docs/operating.md").split("### What may leave the database\n", 1)[1].split("\n## ", 1)[0]
        [page] = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
        page = page.replace(OF_A_LEDGER, str(PART_SEQUENCES)).replace("TABLESPACE cold", f"TABLESPACE {cold}")
        connection = await asyncpg.connect(ledger.database_url)
        await connection.execute("SET ROLE ledger_owner")
        sending = asyncio.create_task(send(ledger, 200))
        full, *statements = page.split(";")
        assert await connection.fetchval(full) is True
        for statement in statements[:-2]:
            await connection.execute(statement)
        await sending
        await until_projected(ledger, 240)
        verified = await ledger_cli("verify", "--json", environment=environment)
        assert (verified.code, verified.document["events"]) == (0, 240), verified.err
        await connection.execute(statements[-2])

        assert (
            await connection.fetchval(
                "SELECT spcname FROM pg_class JOIN pg_tablespace AS space ON space.oid = reltablespace "
                "WHERE pg_class.oid = 'ledger.event_000000'::regclass"
            )
            == cold
        )
        for statement in ("UPDATE ledger.event SET amount = 1", "DELETE FROM ledger.event"):
            with pytest.raises(asyncpg.RestrictViolationError):
                await connection.execute(f"{statement} WHERE sequence < {PART_SEQUENCES}")
        with pytest.raises(asyncpg.RestrictViolationError):
            await connection.execute("TRUNCATE ledger.event_000000")
        await connection.close()

        archived = await ledger_cli("archive", str(tmp_path / "archive"), "--json", environment=environment)
        assert (archived.code, archived.document["events"]) == (0, 240), archived.err
    for model in READ_MODELS:
        await rebuild(ledger.database_url, model)
    again = await ledger_cli("verify", "--json", environment=environment)
    assert (again.code, again.document["events"]) == (0, 240), again.err


def test_the_page_names_the_size_of_a_part() -> None:
    assert (
        f"part_sequences CONSTANT bigint := {OF_A_LEDGER};"
        in (ROOT / "alembic/sql/0001/30_ensure_event_part.up.sql").read_text()
    )
    assert f"{int(OF_A_LEDGER):,} sequences" in text_of("docs/operating.md")
