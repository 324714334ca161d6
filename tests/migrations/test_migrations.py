"""Migrations: up, down and up again leave the same, which is what the code declares; and they lose nothing."""

import asyncio
import re
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from ledger.event_store import schema as ledger_schema
from ledger.event_store.connections import connect
from ledger.event_store.identity import initialise
from ledger.event_store.migrate import downgrade, upgrade
from ledger.event_store.postgres import PostgresEventStore
from projections import schema as projections_schema
from tests.contract.hand import Hand
from tests.migrations.catalog import SCHEMAS, STRUCTURE, catalog
from tests.servers import fresh_database

pytestmark = pytest.mark.integration

MIGRATIONS = Path(__file__).parents[2] / "alembic"
REVISIONS = sorted(file.name.partition("_")[0] for file in (MIGRATIONS / "versions").glob("*.py"))
ROLES = ("ledger_owner", "ledger_projector", "ledger_reader", "ledger_writer")
EVENT_PART = re.compile(r"ledger\.event_\d{6}")


async def up(url: str, revision: str = "head") -> None:
    await asyncio.to_thread(upgrade, url, revision)


async def down(url: str, revision: str, *, discard_events: bool = False) -> None:
    await asyncio.to_thread(downgrade, url, revision, discard_events=discard_events)


async def fetch_value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def record_one_event(url: str) -> None:
    connection = await connect(url, role="ledger_owner", application="tests")
    try:
        await initialise(connection, 2)
    finally:
        await connection.close()
    hand = Hand(PostgresEventStore(url))
    await hand.claim(0)
    hand.entry(0)
    await hand.write()
    assert isinstance(hand.store, PostgresEventStore)
    await hand.store.stop()


# --- up and down ----------------------------------------------------------------------------------------------------


async def test_up_down_and_up_again_leave_the_same_schema(empty_database_url: str) -> None:
    await up(empty_database_url)
    first = await catalog(empty_database_url)
    assert {"relation ledger.event", "trigger ledger.event.event_rows_stay", "column ledger.event.hash"} <= first.keys()
    await down(empty_database_url, "base")
    await up(empty_database_url)
    assert await catalog(empty_database_url) == first


async def test_every_step_down_leads_back_to_where_the_step_up_began(empty_database_url: str) -> None:
    before: dict[str, dict[str, str]] = {}
    place = "base"
    for revision in REVISIONS:
        before[place] = await catalog(empty_database_url)
        await up(empty_database_url, revision)
        assert await catalog(empty_database_url) != before[place]
        place = revision
    for revision in reversed(["base", *REVISIONS[:-1]]):
        await down(empty_database_url, revision)
        assert await catalog(empty_database_url) == before[revision], f"down to {revision}"
    assert before["base"] == {}


async def test_down_to_the_base_leaves_nothing_but_alembics_own_table(empty_database_url: str) -> None:
    await up(empty_database_url)
    await down(empty_database_url, "base")
    left = await fetch_value(
        empty_database_url,
        "SELECT array_agg(relname::text) FROM pg_class WHERE relkind = 'r'"
        " AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema')",
    )
    assert left == ["ledger_alembic_version"]


async def test_upgrading_twice_does_nothing(empty_database_url: str) -> None:
    await up(empty_database_url)
    await record_one_event(empty_database_url)
    before = await catalog(empty_database_url)
    identity = await fetch_value(empty_database_url, "SELECT ledger_id FROM ledger.ledger_identity")
    await up(empty_database_url)
    assert await catalog(empty_database_url) == before
    assert await fetch_value(empty_database_url, "SELECT ledger_id FROM ledger.ledger_identity") == identity
    assert await fetch_value(empty_database_url, "SELECT count(*) FROM ledger.event") == 1


async def test_a_password_with_a_percent_sign_is_no_format(empty_database_url: str) -> None:
    name = f"percent_{uuid.uuid4().hex}"
    connection = await asyncpg.connect(empty_database_url)
    try:
        await connection.execute(f"CREATE ROLE {name} LOGIN SUPERUSER PASSWORD 'a%b'")
        address = empty_database_url.partition("://")[2].rpartition("@")[2]
        await up(f"postgresql://{name}:a%25b@{address}")
        await connection.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER; DROP ROLE {name}")
    finally:
        await connection.close()
    assert "relation ledger.event" in await catalog(empty_database_url)


# --- nothing is lost ------------------------------------------------------------------------------------------------


async def test_down_is_refused_while_events_exist(empty_database_url: str) -> None:
    await up(empty_database_url)
    await record_one_event(empty_database_url)
    before = await catalog(empty_database_url)
    with pytest.raises(SystemExit, match="discard-events"):
        await down(empty_database_url, "base")
    assert await fetch_value(empty_database_url, "SELECT count(*) FROM ledger.event") == 1
    await up(empty_database_url)
    assert await catalog(empty_database_url) == before


async def test_down_throws_events_away_when_told_so(empty_database_url: str) -> None:
    await up(empty_database_url)
    await record_one_event(empty_database_url)
    await down(empty_database_url, "base", discard_events=True)
    assert await catalog(empty_database_url) == {}


async def test_down_is_allowed_while_there_are_no_events(empty_database_url: str) -> None:
    await up(empty_database_url)
    connection = await connect(empty_database_url, role="ledger_owner", application="tests")
    try:
        await initialise(connection, 2)
    finally:
        await connection.close()
    await down(empty_database_url, "base")
    assert await catalog(empty_database_url) == {}


# --- what is made is what is declared -------------------------------------------------------------------------------


@pytest.fixture
async def declared_database_url(postgres_server_url: str) -> AsyncIterator[str]:
    """A database whose tables SQLAlchemy made from the declarations."""
    async with fresh_database(postgres_server_url) as url:
        engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
        async with engine.begin() as connection:
            for schema in SCHEMAS:
                await connection.execute(text(f"CREATE SCHEMA {schema}"))
            await connection.run_sync(ledger_schema.metadata.create_all)
            await connection.run_sync(projections_schema.metadata.create_all)
        await engine.dispose()
        yield url


def without_parts(found: dict[str, str]) -> dict[str, str]:
    return {name: what for name, what in found.items() if not EVENT_PART.search(name)}


async def test_the_migrated_schema_equals_the_declared_one(
    ledger_database_url: str, declared_database_url: str
) -> None:
    migrated = without_parts(await catalog(ledger_database_url, STRUCTURE))
    declared = await catalog(declared_database_url, STRUCTURE)
    assert migrated == declared
    assert {"column ledger.account.balance", "column projections.checkpoint.sequence"} <= declared.keys()


async def test_the_storage_options_are_the_declared_ones(ledger_database_url: str, declared_database_url: str) -> None:
    query = """
        SELECT relation.oid::regclass::text,
            concat_ws(' ', array_to_string(reloptions, ','), pg_get_partkeydef(relation.oid))
        FROM pg_class AS relation
        WHERE relnamespace::regnamespace::text = ANY ($1) AND relkind IN ('r', 'p')
    """
    migrated = without_parts(await catalog(ledger_database_url, (query,)))
    assert migrated == await catalog(declared_database_url, (query,))


async def test_every_part_of_the_event_table_is_like_the_whole(ledger_database_url: str) -> None:
    await fetch_value(ledger_database_url, "SELECT ledger.ensure_event_part(9000000)")
    found = await catalog(ledger_database_url)
    kinds = ("column", "constraint", "trigger")

    def of_table(table: str) -> dict[str, str]:
        short = table.removeprefix("ledger.")
        return {
            re.sub(rf"\b{short}\b", "event", name): re.sub(rf"\b{short}\b", "event", what)
            for name, what in found.items()
            if name.startswith(tuple(f"{kind} {table}." for kind in kinds)) and ".event_pkey" not in name
        }

    whole = of_table("ledger.event")
    parts = sorted({match[0] for name in found if (match := EVENT_PART.search(name))})
    assert parts == ["ledger.event_000000", "ledger.event_000002"]
    for part in parts:
        like = {name: what for name, what in of_table(part).items() if "_pkey" not in name}
        assert like == whole, part
        assert found[f"relation {part}"].split()[1] == "ledger_owner"


async def test_text_is_compared_by_bytes_everywhere(ledger_database_url: str) -> None:
    count = await fetch_value(
        ledger_database_url,
        "SELECT array_agg(table_schema || '.' || table_name || '.' || column_name) FROM information_schema.columns"
        " WHERE table_schema IN ('ledger', 'projections') AND data_type = 'text'"
        " AND collation_name IS DISTINCT FROM 'C'",
    )
    assert count is None


# --- roles ----------------------------------------------------------------------------------------------------------


async def roles(url: str) -> list[tuple[str, bool, bool]]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT rolname::text, rolcanlogin, rolsuper FROM pg_roles WHERE rolname = ANY ($1) ORDER BY 1", ROLES
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


async def test_the_roles_are_groups_that_cannot_log_in_and_stay(empty_database_url: str) -> None:
    expected = [(role, False, False) for role in ROLES]
    await up(empty_database_url)
    assert await roles(empty_database_url) == expected
    await down(empty_database_url, "base")
    assert await roles(empty_database_url) == expected


async def test_roles_are_made_where_they_are_absent_and_left_where_they_are(empty_database_url: str) -> None:
    # On roles of other names, and rolled back: those of the ledger belong to the whole server.
    prefix = f"absent_{uuid.uuid4().hex}"
    statement = (MIGRATIONS / "sql/0001/00_roles.up.sql").read_text().replace("ledger_", f"{prefix}_")
    connection = await asyncpg.connect(empty_database_url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        for _ in range(2):
            await connection.execute(statement)
            count = await connection.fetchval("SELECT count(*) FROM pg_roles WHERE rolname LIKE $1", f"{prefix}%")
            assert count == len(ROLES)
        await transaction.rollback()
    finally:
        await connection.close()


async def test_everything_belongs_to_the_owner_who_cannot_log_in(ledger_database_url: str) -> None:
    found = await catalog(ledger_database_url)
    owners = {name: what.split()[1] for name, what in found.items() if name.startswith("relation ")}
    assert owners
    assert set(owners.values()) == {"ledger_owner"}
    assert all(what.split()[0] == "ledger_owner" for name, what in found.items() if name.startswith("schema "))


# --- many at once ---------------------------------------------------------------------------------------------------


async def up_in_a_process_of_its_own(url: str) -> None:
    """Alembic keeps its state in globals: two migrations at once need two processes."""
    code = "import sys; from ledger.event_store.migrate import upgrade; upgrade(sys.argv[1])"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, url, cwd=MIGRATIONS.parent, stderr=asyncio.subprocess.PIPE
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()


async def test_several_ledgers_on_one_server_migrate_at_the_same_moment(postgres_server_url: str) -> None:
    async with AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(fresh_database(postgres_server_url)) for _ in range(3)]
        await asyncio.gather(*(up_in_a_process_of_its_own(url) for url in urls))
        first, *others = [await catalog(url) for url in urls]
        assert all(other == first for other in others)


async def test_several_processes_migrate_one_database_at_the_same_moment(empty_database_url: str) -> None:
    await asyncio.gather(*(up_in_a_process_of_its_own(empty_database_url) for _ in range(3)))
    assert "relation projections.checkpoint" in await catalog(empty_database_url)
