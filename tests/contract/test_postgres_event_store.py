"""What only the record in Postgres can do wrong: frozen holders, lost connections, rights, triggers, parts."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ledger.domain.account import Account
from ledger.domain.position import Position
from ledger.event_store.postgres import CLAIM_PATIENCE_S, PostgresEventStore
from ledger.event_store.protocol import (
    AccountKey,
    Appended,
    CommitOutcomeUnknownError,
    Fenced,
    ForeignLedgerError,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.sql_files import sql
from tests.contract.cut_connection import cut_at_commit
from tests.contract.hand import Hand
from tests.contract.records import ALWAYS_AT_ONCE, ALWAYS_BY_COPY, RecordInPostgres

pytestmark = pytest.mark.integration

PART_SEQUENCES = 4_194_304
WAIT_LIMIT_S = 20.0
CLAIM_TRIES_MAX = 5


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return as soon as the condition, a question to Postgres, is true."""
    deadline = time.monotonic() + WAIT_LIMIT_S
    while not await condition():
        assert time.monotonic() < deadline, "did not come true in time"
        await asyncio.sleep(0.01)


by_either_way = pytest.mark.parametrize(
    "postgres", [ALWAYS_AT_ONCE, ALWAYS_BY_COPY], ids=["at-once", "by-copy"], indirect=True
)


async def holding(postgres: RecordInPostgres, *partitions: int) -> Hand:
    hand = Hand(postgres.client())
    await hand.claim(*partitions)
    return hand


# --- a holder that freezes or is cut off ----------------------------------------------------------------------------


@asynccontextmanager
async def frozen_in_mid_copy(postgres: RecordInPostgres, partition: int) -> AsyncIterator[asyncio.Task[str]]:
    """A holder that has locked its head and stops in the middle of its COPY: it sends nothing and reads nothing."""
    holder = await asyncpg.connect(postgres.url)
    forever = asyncio.Event()

    async def bytes_that_never_come() -> AsyncIterator[bytes]:
        yield b"one\t0\t"
        await forever.wait()

    try:
        transaction = holder.transaction()
        await transaction.start()
        await holder.fetch("SELECT FROM ledger.partition_head WHERE partition = $1 FOR UPDATE", partition)
        copying = asyncio.create_task(
            holder.copy_to_table("quarantine", schema_name="ledger", source=bytes_that_never_come())
        )
        pid = holder.get_server_pid()

        async def waits_for_its_client() -> bool:
            count: int = await postgres.connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
                " AND wait_event = 'ClientRead'",
                pid,
            )
            return count == 1

        await until(waits_for_its_client)
        yield copying
        forever.set()
        with contextlib.suppress(Exception):  # it fails in whichever way asyncpg notices that it was terminated
            await copying
    finally:
        holder.terminate()


async def test_a_claim_ends_a_consumer_that_was_frozen_in_mid_copy(postgres: RecordInPostgres) -> None:
    async with frozen_in_mid_copy(postgres, 0) as frozen:
        began = time.monotonic()
        claim = await postgres.client().claim(0, "rescuer")
        waited = time.monotonic() - began
        assert claim is not None
        assert claim.epoch == 1
        assert waited >= CLAIM_PATIENCE_S, "it was ended although it might have finished in time"
        assert not frozen.done() or frozen.exception() is not None
    assert await postgres.connection.fetchval("SELECT count(*) FROM ledger.quarantine") == 0


async def test_several_claims_that_wait_for_the_same_frozen_holder_all_come_through(
    postgres: RecordInPostgres,
) -> None:
    async def claim_until_it_succeeds(holder: str) -> int:
        # A claim that waits behind another one may end that one for the frozen holder's sake: it tries again.
        store = postgres.client()
        for _ in range(CLAIM_TRIES_MAX):
            try:
                claim = await store.claim(0, holder)
            except StoreUnavailableError:
                continue
            assert claim is not None
            return claim.epoch
        raise AssertionError("no claim came through")

    async with frozen_in_mid_copy(postgres, 0):
        epochs = await asyncio.gather(*(claim_until_it_succeeds(f"holder {number}") for number in range(3)))
    assert len(set(epochs)) == 3
    assert (await postgres.head(0))["epoch"] == max(epochs)


async def test_a_claim_of_another_partition_does_not_wait_for_the_frozen_one(postgres: RecordInPostgres) -> None:
    async with frozen_in_mid_copy(postgres, 0) as frozen:
        assert await postgres.client().claim(1, "other") is not None
        assert not frozen.done()


async def test_a_claim_waits_for_a_holder_that_finishes_in_time(postgres: RecordInPostgres) -> None:
    holder = await asyncpg.connect(postgres.url)
    try:
        async with holder.transaction():
            await holder.fetch("SELECT FROM ledger.partition_head WHERE partition = 0 FOR UPDATE")
            claiming = asyncio.create_task(postgres.client().claim(0, "patient"))
            await until(lambda: someone_waits_for_a_lock(postgres))
        assert await claiming is not None
        assert await holder.fetchval("SELECT 1") == 1, "it was ended although it was in time"
    finally:
        await holder.close()


async def someone_waits_for_a_lock(postgres: RecordInPostgres) -> bool:
    waiting = await postgres.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return bool(waiting)


async def store_pids(postgres: RecordInPostgres) -> list[int]:
    rows = await postgres.connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'test client%'"
    )
    return [row["pid"] for row in rows]


async def end_connections_of_the_store(postgres: RecordInPostgres) -> None:
    for pid in await store_pids(postgres):
        await postgres.connection.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)


async def test_a_lost_connection_is_replaced(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    await end_connections_of_the_store(postgres)
    hand.entry(0)
    # Never without a word, whenever the driver notices: what answers next may be another server.
    with pytest.raises(StoreUnavailableError):
        await hand.write()
    assert isinstance(await hand.write(), Appended)
    assert (await postgres.head(0))["sequence"] == 1


@by_either_way
async def test_a_connection_ended_in_mid_transaction_appends_nothing(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    hand.entry(0, nonce="n")
    async with postgres.connection.transaction():
        await postgres.connection.execute("LOCK TABLE ledger.nonce_key IN SHARE MODE")
        writing = asyncio.create_task(hand.write())
        await until(lambda: someone_waits_for_a_lock(postgres))
        await end_connections_of_the_store(postgres)
        with pytest.raises(StoreUnavailableError):
            await writing
    assert set((await postgres.counts()).values()) == {0}
    assert (await postgres.head(0))["sequence"] == 0
    # The next call connects anew, and the same batch goes through.
    assert isinstance(await hand.write(), Appended)


async def test_a_server_that_is_away_is_unavailable_not_an_error(unused_tcp_port: int) -> None:
    store = PostgresEventStore(f"postgresql://ledger:x@127.0.0.1:{unused_tcp_port}/ledger")
    with pytest.raises(StoreUnavailableError):
        await store.start()
    with pytest.raises(StoreUnavailableError):
        await store.claim(0, "a")


@by_either_way
async def test_a_value_that_cannot_be_sent_is_no_outage(postgres: RecordInPostgres) -> None:
    """Backing off until it goes through would be for ever: nobody would learn that the partition stands still."""
    hand = await holding(postgres, 0)
    with pytest.raises(RecordMismatchError, match="int64"):
        await hand.store.note_published(0, 1, 2**70)
    for amount, owner_id in ((2**70, "owner"), (1, "a\0b"), (1, "\ud800")):
        hand.draft(0)
        batch = hand.build()
        batch.accounts[AccountKey(owner_id, "credits")] = Account(amount, 1)
        with pytest.raises(RecordMismatchError, match="refuses"):
            await hand.store.append(batch)
        hand.forget()
    hand.entry(0)
    assert isinstance(await hand.write(), Appended)


@by_either_way
async def test_a_cancelled_append_leaves_a_usable_store(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    hand.entry(0)
    async with postgres.connection.transaction():
        await postgres.connection.execute("SELECT FROM ledger.partition_head WHERE partition = 0 FOR UPDATE")
        writing = asyncio.create_task(hand.write())
        await until(lambda: someone_waits_for_a_lock(postgres))
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
    assert isinstance(await hand.write(), Appended)
    assert (await postgres.head(0))["sequence"] == 1


@pytest.mark.parametrize("answered", [False, True], ids=["before it arrived", "after it happened"])
async def test_a_connection_lost_during_commit_leaves_the_outcome_unknown(
    postgres: RecordInPostgres, answered: bool
) -> None:
    async with cut_at_commit(postgres.url, commit_arrives=answered) as (url, armed):
        store = PostgresEventStore(url)
        hand = Hand(store)
        await hand.claim(0)
        epoch = hand.places[0].epoch
        hand.entry(0)
        armed.set()
        with pytest.raises(CommitOutcomeUnknownError):
            await hand.write()
        armed.clear()
        await until(lambda: nobody_is_in_a_transaction(postgres))
        # What the consumer does then: claim on condition, and look at where the record ends.
        claim = await store.claim(0, "hand", if_epoch=epoch)
        await store.stop()
    assert claim is not None
    assert (claim.epoch, claim.sequence) == (epoch + 1, 1 if answered else 0)
    assert (await postgres.counts())["event"] == (1 if answered else 0)


async def nobody_is_in_a_transaction(postgres: RecordInPostgres) -> bool:
    count: int = await postgres.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND state <> 'idle'"
    )
    return count == 0


# --- another database -----------------------------------------------------------------------------------------------


async def test_a_database_without_a_ledger_is_refused(empty_ledger_url: str) -> None:
    store = PostgresEventStore(empty_ledger_url)
    with pytest.raises(RecordMismatchError, match="ledger migrate"):
        await store.start()


@pytest.fixture
async def empty_ledger_url(ledger_database_url: str) -> str:
    connection = await asyncpg.connect(ledger_database_url)
    try:
        await connection.execute("TRUNCATE ledger.ledger_identity")
    finally:
        await connection.close()
    return ledger_database_url


async def test_a_database_that_is_swapped_under_a_running_ledger_is_refused(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    await postgres.connection.execute("UPDATE ledger.ledger_identity SET ledger_id = gen_random_uuid()")
    await end_connections_of_the_store(postgres)
    hand.entry(0)
    for _ in range(2):
        with pytest.raises(StoreUnavailableError) as error:
            await hand.write()
    assert error.type is ForeignLedgerError
    assert "put the right database back" in str(error.value)
    assert set((await postgres.counts()).values()) == {0}


# --- history is guarded by the database -----------------------------------------------------------------------------


CHANGES = [
    "UPDATE ledger.{} SET sequence = sequence",
    "UPDATE ledger.{} SET partition = 5 WHERE partition = 0",
    "DELETE FROM ledger.{}",
    "TRUNCATE ledger.{}",
    "TRUNCATE ledger.{} CASCADE",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("table", ["event", "event_000000", "event_000001", "command_key", "nonce_key"])
async def test_triggers_refuse_every_change_of_history_even_to_the_servers_owner(
    postgres: RecordInPostgres, table: str, change: str
) -> None:
    hand = await holding(postgres, 0)
    hand.entry(0)
    await hand.write()
    await place_head(postgres, 0, PART_SEQUENCES)
    await hand.claim(0)
    hand.entry(0)
    await hand.write()
    before = await postgres.counts()
    assert before["event"] == 2
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await postgres.connection.execute(change.format(table))
    assert await postgres.counts() == before


@pytest.mark.parametrize(
    "statement",
    [
        *(change.format(table) for table in ("event", "command_key", "nonce_key") for change in CHANGES),
        "DROP TABLE ledger.event",
        "ALTER TABLE ledger.event DISABLE TRIGGER ALL",
        "ALTER TABLE ledger.event DETACH PARTITION ledger.event_000000",
        "INSERT INTO ledger.event_000000 SELECT * FROM ledger.event",
        "CREATE TABLE ledger.mine (x int)",
        "DELETE FROM ledger.account",
        "DELETE FROM ledger.partition_head",
        "INSERT INTO ledger.partition_head (partition, hash) VALUES (99, '')",
        "UPDATE ledger.ledger_identity SET partitions = 1",
        "DELETE FROM ledger.command_offset",
        "UPDATE ledger.quarantine SET value = ''",
        "DELETE FROM ledger.quarantine",
        "SET session_replication_role = replica",
    ],
)
async def test_the_writer_has_no_right_to_change_history(postgres: RecordInPostgres, statement: str) -> None:
    await postgres.connection.execute("SET ROLE ledger_writer")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await postgres.connection.execute(statement)


@pytest.mark.parametrize("role", ["ledger_reader", "ledger_projector"])
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO ledger.nonce_key VALUES (gen_random_uuid(), 0, 1)",
        "UPDATE ledger.account SET balance = 1",
        "UPDATE ledger.partition_head SET epoch = 99",
        "SELECT ledger.ensure_event_part(1)",
    ],
)
async def test_readers_and_projectors_only_read_the_record(
    postgres: RecordInPostgres, role: str, statement: str
) -> None:
    await postgres.connection.execute(f"SET ROLE {role}")
    assert await postgres.connection.fetchval("SELECT count(*) FROM ledger.event") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await postgres.connection.execute(statement)


# --- something else changes the record ------------------------------------------------------------------------------


@by_either_way
@pytest.mark.parametrize("table", ["event", "command_key", "nonce_key", "quarantine"])
async def test_rows_that_the_database_swallows_are_noticed(postgres: RecordInPostgres, table: str) -> None:
    """A trigger of somebody else's, say: only what was written is counted."""
    hand = await holding(postgres, 0)
    hand.entry(0)
    await hand.write()
    await postgres.connection.execute(
        "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    )
    await postgres.connection.execute(
        f"CREATE TRIGGER swallows BEFORE INSERT ON ledger.{table} FOR EACH ROW EXECUTE FUNCTION swallow()"
    )
    before = await postgres.counts()
    hand.entry(0)
    if table == "quarantine":
        hand.unreadable(0, key=b"k", value=b"v")
    with pytest.raises(RecordMismatchError, match=f"rows of {table}, found 0"):
        await hand.write()
    assert await postgres.counts() == before
    assert (await postgres.head(0))["sequence"] == 1


async def test_events_behind_one_that_is_missing_are_not_read(postgres: RecordInPostgres) -> None:
    """Their prev_hash could not be given, and whoever continues from there would not follow the chain."""
    hand = await holding(postgres, 0)
    for _ in range(3):
        hand.entry(0)
    await hand.write()
    async with postgres.connection.transaction():
        await postgres.connection.execute("SET LOCAL session_replication_role = replica")
        await postgres.connection.execute("DELETE FROM ledger.event WHERE sequence = 2")
    with pytest.raises(RecordMismatchError, match="lacks 0:2"):
        await hand.store.read_events(0, 2, 10)


# --- parts of the event table ---------------------------------------------------------------------------------------


async def place_head(postgres: RecordInPostgres, partition: int, sequence: int) -> None:
    """Let the partition's record end at this sequence, as if all before it had been archived."""
    await postgres.connection.execute(
        "UPDATE ledger.partition_head SET sequence = $2 WHERE partition = $1", partition, sequence
    )


async def parts(postgres: RecordInPostgres) -> list[str]:
    rows = await postgres.connection.fetch(
        "SELECT relname AS part FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'ledger.event'::regclass ORDER BY 1"
    )
    return [row["part"] for row in rows]


@by_either_way
async def test_one_batch_lies_across_the_boundary_of_two_parts(postgres: RecordInPostgres) -> None:
    await place_head(postgres, 0, PART_SEQUENCES - 2)
    hand = await holding(postgres, 0)
    for _ in range(4):
        hand.entry(0)
    assert isinstance(await hand.write(), Appended)
    counts = await postgres.connection.fetch(
        "SELECT relname, count(*) FROM ledger.event JOIN pg_class ON pg_class.oid = event.tableoid"
        " GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row) for row in counts] == [("event_000000", 1), ("event_000001", 3)]
    found = await hand.store.read_events_at([Position(0, PART_SEQUENCES), Position(0, PART_SEQUENCES - 1)])
    first, second = found[Position(0, PART_SEQUENCES - 1)], found[Position(0, PART_SEQUENCES)]
    assert second.prev_hash == first.hash


async def test_the_next_part_is_there_before_it_is_needed(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    assert await parts(postgres) == ["event_000000", "event_000001"]
    await place_head(postgres, 0, 3 * PART_SEQUENCES - 1)
    await hand.claim(0)
    assert (await parts(postgres))[-1] == "event_000003"
    hand.entry(0)
    assert isinstance(await hand.write(), Appended)
    assert (await parts(postgres))[-1] == "event_000004"


async def test_the_whole_refuses_to_be_emptied_though_its_parts_would_not(postgres: RecordInPostgres) -> None:
    """Parts that an operator has made again from an archive, say, have no trigger of their own."""
    hand = await holding(postgres, 0)
    hand.entry(0)
    await hand.write()
    for part in await parts(postgres):
        await postgres.connection.execute(f"DROP TRIGGER event_is_never_emptied ON ledger.{part}")
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await postgres.connection.execute("TRUNCATE ledger.event")
    assert (await postgres.counts())["event"] == 1


async def test_every_part_refuses_to_be_emptied(postgres: RecordInPostgres) -> None:
    await place_head(postgres, 0, 3 * PART_SEQUENCES)
    await holding(postgres, 0)
    found = await parts(postgres)
    assert len(found) >= 3
    for part in found:
        with pytest.raises(asyncpg.RestrictViolationError):
            await postgres.connection.execute(f"TRUNCATE ledger.{part}")


async def test_parts_are_made_by_many_processes_at_once(postgres: RecordInPostgres) -> None:
    for partition in range(6):
        await place_head(postgres, partition, 7 * PART_SEQUENCES + partition)
    hands = [Hand(postgres.client()) for _ in range(6)]
    await asyncio.gather(*(hand.claim(partition) for partition, hand in enumerate(hands)))
    for partition, hand in enumerate(hands):
        hand.entry(partition, owner_id=f"owner {partition}")
    assert all(isinstance(result, Appended) for result in await asyncio.gather(*(hand.write() for hand in hands)))


# --- locks ----------------------------------------------------------------------------------------------------------


@by_either_way
async def test_an_append_takes_its_locks_in_one_order_whatever_order_its_partitions_are_in(
    postgres: RecordInPostgres,
) -> None:
    """A holder appends on one connection and says on another that it lives: they must not wait for each other."""
    hand = await holding(postgres, 0, 1, 2)
    held = {partition: place.epoch for partition, place in hand.places.items()}
    for partition in held:
        hand.entry(partition, owner_id=f"owner {partition}")
    batch = hand.build()
    batch.heads.reverse()
    async with postgres.connection.transaction():
        # Both come as far as they can before the last lock of one order and the first of the other is free.
        await postgres.connection.execute("SELECT FROM ledger.partition_head WHERE partition = 2 FOR UPDATE")
        appending = asyncio.create_task(hand.store.append(batch))
        await until(lambda: so_many_wait_for_a_lock(postgres, 1))
        saying = asyncio.create_task(hand.store.note_alive(held))
        await until(lambda: so_many_wait_for_a_lock(postgres, 2))
    assert isinstance(await appending, Appended)
    await saying


async def so_many_wait_for_a_lock(postgres: RecordInPostgres, count: int) -> bool:
    # Within a transaction Postgres goes on showing the connections that there were at the first look.
    await postgres.connection.execute("SELECT pg_stat_clear_snapshot()")
    waiting: int = await postgres.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    return waiting >= count


@by_either_way
async def test_the_fence_is_evaluated_again_after_it_has_waited(postgres: RecordInPostgres) -> None:
    hand = await holding(postgres, 0)
    hand.entry(0)
    async with postgres.connection.transaction():
        await postgres.connection.execute(
            sql("ledger.event_store", "claim_partition")
            .replace("$1", "0")
            .replace("$2", "'newer'")
            .replace("$3", "NULL::bigint")
        )
        writing = asyncio.create_task(hand.write())
        await until(lambda: someone_waits_for_a_lock(postgres))
    assert await writing == Fenced(frozenset({0}))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("look_up_commands", ([UUID(int=1)], [UUID(int=2)])),
        ("look_up_nonces", ([UUID(int=1)],)),
        ("load_accounts", (["owner"], ["credits"])),
        ("read_events", (0, 10, 100)),
        ("read_events_at", ([0], [1])),
        ("fence", ([0], [1])),
    ],
)
async def test_the_statements_of_every_batch_use_the_indexes_of_the_keys(
    postgres: RecordInPostgres, name: str, arguments: tuple[Any, ...]
) -> None:
    # The tables are empty here; whether an index can serve is the question, not whether it is worth it.
    await postgres.connection.execute("SET enable_seqscan = off")
    explain = await postgres.connection.prepare(f"EXPLAIN {sql('ledger.event_store', name)}")
    plan = "\n".join(row[0] for row in await explain.fetch(*arguments))
    assert "_pkey" in plan, plan
    assert "Seq Scan" not in plan, plan
