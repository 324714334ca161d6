"""What each process's login may do in the database, tried by logging in as it with a plain driver."""

import asyncio
import io
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from ledger.event_store.database_url import with_login
from ledger.event_store.postgres import PostgresEventStore
from projections.balances import BALANCES
from projections.registry import READ_MODELS
from projections.versions import install, rebuild
from service.database import prepare_database
from service.logins import LoginError, check_logins, create_logins, scram_verifier
from service.stack import Addresses, Login
from tests.database_logins import LOGIN_PASSWORD, drop_logins, logins_of
from tests.servers import with_database

pytestmark = pytest.mark.integration

CHANGES_BY_OPERATORS = (
    "INSERT INTO ledger.intervention (operator, kind, subject, reason, before, after) VALUES ('', '', '', '', '', '')",
    "DELETE FROM ledger.intervention",
    "INSERT INTO ledger.command_generation VALUES ('example-app', 0, 2, 1, 0)",
    "DELETE FROM ledger.command_generation",
    "UPDATE ledger.api_key SET revoked_at = NULL",
    "DELETE FROM ledger.api_key",
)
CHANGES_OF_THE_RECORD = (
    *CHANGES_BY_OPERATORS,
    "INSERT INTO ledger.event SELECT * FROM ledger.event",
    "UPDATE ledger.event SET amount = 1",
    "DELETE FROM ledger.event",
    "TRUNCATE ledger.event",
    "COPY ledger.event FROM STDIN",
    "INSERT INTO ledger.event_000000 SELECT * FROM ledger.event_000000",
    "UPDATE ledger.event_000000 SET amount = 1",
    "TRUNCATE ledger.event_000000",
    "DROP TABLE ledger.event_000000",
    "ALTER TABLE ledger.event DETACH PARTITION ledger.event_000000",
    "INSERT INTO ledger.command_key VALUES (gen_random_uuid(), gen_random_uuid(), 0, 1)",
    "DELETE FROM ledger.command_key",
    "INSERT INTO ledger.nonce_key VALUES (gen_random_uuid(), 0, 1)",
    "DELETE FROM ledger.nonce_key",
    "UPDATE ledger.partition_head SET epoch = 99",
    "INSERT INTO ledger.partition_head (partition, hash) VALUES (99, '')",
    "UPDATE ledger.account SET balance = 1",
    "INSERT INTO ledger.account VALUES ('ada', 'credits', 1, 1)",
    "UPDATE ledger.command_offset SET next_offset = 0",
    "INSERT INTO ledger.quarantine SELECT * FROM ledger.quarantine",
    "UPDATE ledger.quarantine SET status = 'discarded'",
    "DELETE FROM ledger.quarantine",
    "UPDATE ledger.ledger_identity SET partitions = 1",
    "SELECT ledger.ensure_event_part(1)",
)
CHANGES_OF_HISTORY = (
    *CHANGES_BY_OPERATORS,
    "UPDATE ledger.event SET amount = 1",
    "DELETE FROM ledger.event",
    "TRUNCATE ledger.event",
    "UPDATE ledger.event_000000 SET amount = 1",
    "DELETE FROM ledger.event_000000",
    "TRUNCATE ledger.event_000000",
    "DROP TABLE ledger.event_000000",
    "ALTER TABLE ledger.event DETACH PARTITION ledger.event_000000",
    "UPDATE ledger.command_key SET sequence = 1",
    "DELETE FROM ledger.command_key",
    "TRUNCATE ledger.command_key",
    "UPDATE ledger.nonce_key SET sequence = 1",
    "DELETE FROM ledger.nonce_key",
    "TRUNCATE ledger.nonce_key",
    "DELETE FROM ledger.account",
    "DELETE FROM ledger.command_offset",
    "DELETE FROM ledger.partition_head",
    "INSERT INTO ledger.partition_head (partition, hash) VALUES (99, '')",
    "UPDATE ledger.quarantine SET value = ''",
    "DELETE FROM ledger.quarantine",
    "UPDATE ledger.ledger_identity SET partitions = 1",
    "DROP TRIGGER event_rows_stay ON ledger.event",
    "ALTER TABLE ledger.event DISABLE TRIGGER event_rows_stay",
    "ALTER TABLE ledger.event DISABLE TRIGGER ALL",
    "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE RULE nothing AS ON INSERT TO ledger.event DO INSTEAD NOTHING",
)
CHANGES_OF_READ_MODELS = (
    "SELECT * FROM projections.balances_v1",
    "UPDATE projections.balances_v1 SET balance = 1",
    "UPDATE projections.checkpoint SET epoch = 99",
    "UPDATE projections.read_model SET active_version = 99",
)
WAYS_ROUND = (
    "SET session_replication_role = replica",
    "SET ROLE ledger_owner",
    "SET SESSION AUTHORIZATION ledger_owner",
    "CREATE TABLE ledger.mine ()",
    "CREATE TABLE projections.mine ()",
    "CREATE TABLE public.mine ()",
    "CREATE TEMPORARY TABLE mine ()",
    "CREATE SCHEMA mine",
    "CREATE ROLE mine",
    "GRANT ledger_owner TO CURRENT_USER",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
)


@pytest.fixture
async def logins(empty_database_url: str) -> AsyncIterator[Addresses]:
    # Not from the template: what PUBLIC may do to a database is not copied with it.
    await prepare_database(empty_database_url, 4)
    async with logins_of(empty_database_url) as made:
        yield made


@asynccontextmanager
async def logged_in(addresses: Addresses, kind: Login) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(addresses.database(kind))
    try:
        yield connection
    finally:
        await connection.close()


async def allowed(connection: asyncpg.Connection, *statements: str) -> list[str]:
    """Those of the statements that are not refused for want of a right. Nothing of them stays."""
    done = []
    for statement in statements:
        transaction = connection.transaction()
        await transaction.start()
        try:
            if statement.startswith("COPY ledger"):
                await connection.copy_to_table("event", schema_name="ledger", source=io.BytesIO())
            else:
                await connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            pass
        except asyncpg.PostgresError as error:
            done.append(f"{statement} ({error})")
        else:
            done.append(statement)
        await transaction.rollback()
    return done


async def test_the_projector_cannot_insert_an_event_nor_change_anything_of_the_record(logins: Addresses) -> None:
    async with logged_in(logins, "projector") as projector:
        assert await projector.fetchval("SELECT count(*) FROM ledger.event") == 0
        assert await allowed(projector, *CHANGES_OF_THE_RECORD, *WAYS_ROUND) == []
        # Of the read models it moves the tables and checkpoints, and never says which version is read.
        mine = ("UPDATE projections.balances_v1 SET balance = 1", "UPDATE projections.checkpoint SET epoch = 99")
        assert tuple(await allowed(projector, *mine)) == mine
        others = (
            "UPDATE projections.read_model SET active_version = 99",
            "DELETE FROM projections.checkpoint",
            "DROP TABLE projections.balances_v1",
            "SET ROLE ledger_writer",
            "SET ROLE ledger_reader",
        )
        assert await allowed(projector, *others, "SELECT * FROM ledger.api_key") == []


async def test_the_writer_cannot_change_what_it_has_written_nor_switch_the_guards_off(logins: Addresses) -> None:
    async with logged_in(logins, "writer") as writer:
        ways = ("SET ROLE ledger_projector", "SET ROLE ledger_reader", *WAYS_ROUND)
        assert await allowed(writer, *CHANGES_OF_HISTORY, *CHANGES_OF_READ_MODELS, *ways) == []
        mine = (
            "UPDATE ledger.partition_head SET epoch = 99",
            "INSERT INTO ledger.account VALUES ('ada', 'credits', 1, 1)",
            "SELECT ledger.ensure_event_part(1)",
        )
        assert tuple(await allowed(writer, *mine)) == mine


async def test_the_reader_cannot_write_anything(logins: Addresses) -> None:
    async with logged_in(logins, "reader") as reader:
        for table in ("ledger.event", "ledger.quarantine", "projections.balances_v1", "projections.checkpoint"):
            await reader.fetch(f"SELECT * FROM {table}")
        ways = ("SET ROLE ledger_writer", "SET ROLE ledger_projector", *WAYS_ROUND)
        writes = CHANGES_OF_READ_MODELS[1:]
        assert await allowed(reader, *CHANGES_OF_THE_RECORD, *writes, *ways) == []


async def test_the_apps_login_sees_nothing_but_its_own_schema(logins: Addresses) -> None:
    async with logged_in(logins, "app") as app:
        looks = ("SELECT * FROM ledger.event", "SELECT * FROM projections.read_model")
        roles = tuple(f"SET ROLE ledger_{name}" for name in ("writer", "projector", "reader"))
        assert await allowed(app, *looks, *CHANGES_OF_THE_RECORD, *roles, *WAYS_ROUND) == []
        assert len(await allowed(app, "CREATE TABLE example_app.mine ()")) == 1


async def test_these_tests_would_notice_a_login_that_may_more(logins: Addresses) -> None:
    """As it was before: whoever connects as the owner gets out of any role by saying so."""
    owner = await asyncpg.connect(logins.database("owner"), server_settings={"role": "ledger_writer"})
    try:
        assert await allowed(owner, "DELETE FROM ledger.event") == []
        assert await allowed(owner, "SET ROLE ledger_owner") == ["SET ROLE ledger_owner"]
    finally:
        await owner.close()


async def test_nobody_else_may_even_connect(logins: Addresses) -> None:
    stranger = f"test_stranger_{uuid.uuid4().hex[:12]}"
    async with logged_in(logins, "owner") as owner:
        await owner.execute(f"CREATE ROLE {stranger} LOGIN PASSWORD '{scram_verifier(LOGIN_PASSWORD)}'")
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for database"):
            await asyncpg.connect(with_login(logins.database("owner"), stranger, LOGIN_PASSWORD))
    finally:
        await drop_logins(logins.database("owner"), stranger)


# --- how they are made ----------------------------------------------------------------------------------------------


async def test_making_them_again_changes_their_passwords_only(logins: Addresses) -> None:
    changed = Addresses("", logins.database_url, reader_database_url=logins.database("reader").replace("a%25b", "new"))
    await create_logins(changed)
    async with logged_in(changed, "reader"):
        pass
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(logins.database("reader"))
    await create_logins(logins)
    assert [(one.kind, one.problems) for one in await check_logins(logins)] == [
        ("writer", ()),
        ("projector", ()),
        ("reader", ()),
        ("app", ()),
    ]


async def test_a_login_that_may_more_than_its_process_is_refused_and_noticed(logins: Addresses) -> None:
    writer = logins.database("writer")
    name = writer.partition("://")[2].partition(":")[0]
    for what, addresses in {
        "same login": Addresses("", logins.database_url, writer, writer),
        "is the owner": Addresses("", logins.database_url, logins.database_url),
        "may also act as ledger_writer": Addresses("", logins.database_url, None, None, writer),
        "names no user and password": Addresses("", logins.database_url, "postgresql://127.0.0.1/ledger"),
    }.items():
        with pytest.raises(LoginError, match=what):
            await create_logins(addresses)
    async with logged_in(logins, "owner") as owner:
        await owner.execute(f"GRANT ledger_projector TO {name}")
        with pytest.raises(LoginError, match="may also act as ledger_projector"):
            await create_logins(logins)
        [found] = [one for one in await check_logins(logins) if one.kind == "writer"]
        assert found.problems == ("it may act as ledger_projector",)
        await owner.execute(f"REVOKE ledger_projector FROM {name}; ALTER ROLE {name} CREATEROLE")
        with pytest.raises(LoginError, match="may do more than a process"):
            await create_logins(logins)
    [found] = [one for one in await check_logins(Addresses("", logins.database_url)) if one.kind == "reader"]
    assert "LEDGER_READER_DATABASE_URL" in found.problems[0]


async def test_no_password_is_sent_to_where_a_server_could_log_it(logins: Addresses) -> None:
    async with logged_in(logins, "owner") as owner:
        kept = await owner.fetch("SELECT rolpassword FROM pg_authid WHERE rolname LIKE 'test\\_%'")
    assert kept
    assert all(row["rolpassword"].startswith("SCRAM-SHA-256$4096:") for row in kept)


# --- the work goes on -----------------------------------------------------------------------------------------------


async def test_a_claim_ends_a_frozen_holder_with_the_writers_login(logins: Addresses) -> None:
    frozen = await asyncpg.connect(logins.database("writer"))
    store = PostgresEventStore(logins.database("writer"))
    try:
        await frozen.execute("BEGIN")
        await frozen.execute("SELECT FROM ledger.partition_head WHERE partition = 1 FOR UPDATE")
        claim = await asyncio.wait_for(store.claim(1, "next"), 20)
        assert claim is not None
        assert claim.epoch == 1
    finally:
        await store.stop()
        frozen.terminate()


async def test_an_owner_who_is_no_superuser_migrates_makes_the_logins_and_rebuilds(
    postgres_server_url: str, empty_database_url: str
) -> None:
    name = f"test_owner_{uuid.uuid4().hex[:12]}"
    database = empty_database_url.rpartition("/")[2]
    server = await asyncpg.connect(with_database(postgres_server_url, database))
    url = with_login(empty_database_url, name, LOGIN_PASSWORD)
    groups = "ledger_owner, ledger_writer, ledger_projector, ledger_reader"
    try:
        await prepare_groups(postgres_server_url)
        await server.execute(f"CREATE ROLE {name} LOGIN CREATEROLE PASSWORD '{scram_verifier(LOGIN_PASSWORD)}'")
        # Another ledger on this server made the groups before; otherwise the owner makes them itself.
        await server.execute(f"GRANT {groups} TO {name} WITH ADMIN TRUE")
        await server.execute(f"ALTER DATABASE {database} OWNER TO {name}")
        await prepare_database(url, 4)
        async with logins_of(url) as logins:
            # A worker that is stopped with the checkpoints in its hands is ended by the rebuild.
            frozen = await asyncpg.connect(logins.database("projector"))
            await frozen.execute("BEGIN")
            await frozen.execute("SELECT FROM projections.checkpoint FOR UPDATE")
            done = await asyncio.wait_for(rebuild(url, BALANCES), 30)
            assert done.version == 2
            frozen.terminate()
            async with logged_in(logins, "reader") as reader:
                await reader.fetch("SELECT * FROM projections.balances_v2")
    finally:
        await server.execute(
            f"ALTER DATABASE {database} OWNER TO CURRENT_USER; REASSIGN OWNED BY {name} TO CURRENT_USER"
        )
        await server.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
        await server.close()


async def prepare_groups(server_url: str) -> None:
    """See to it that the server has the ledger's groups, whichever test runs first."""
    connection = await asyncpg.connect(server_url)
    try:
        for group in ("owner", "writer", "projector", "reader"):
            await connection.execute(
                f"DO $$ BEGIN CREATE ROLE ledger_{group} NOLOGIN; "
                "EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            )
    finally:
        await connection.close()


async def test_installing_twice_and_a_new_version_keep_the_rights(logins: Addresses) -> None:
    await install(logins.database("owner"), READ_MODELS)
    await rebuild(logins.database("owner"), BALANCES)
    async with logged_in(logins, "projector") as projector, logged_in(logins, "reader") as reader:
        assert len(await allowed(projector, "UPDATE projections.balances_v2 SET balance = 1")) == 1
        assert await allowed(reader, "UPDATE projections.balances_v2 SET balance = 1") == []
        await reader.fetch("SELECT * FROM projections.balances_v2")
