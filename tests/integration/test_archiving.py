"""`ledger archive` and `ledger verify --archive` on a real record: resumed, cut short, forged, and read by DuckDB."""

import asyncio
import re
import signal
import sys
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import msgspec
import pytest
import pytest_asyncio

from projections.registry import READ_MODELS
from projections.versions import install
from service.archiving.archive import Archived, Extent, archive_events
from service.archiving.checking import ArchiveViolation, check_archive
from service.archiving.joining import compare_with_record
from service.archiving.manifest import MANIFEST, UNFINISHED, ArchiveRefusedError, read_manifest, write_manifest
from tests.archives import chained, change_lines, change_listing, events_of, lines_of, write_archive
from tests.cli_process import ROOT, cli_environment, ledger_cli
from tests.docs_pages import text_of
from tests.ledger_on_servers import WAIT_S, LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected
from tests.servers import fresh_database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

EVENTS = 41
METADATA = '{"note": "on",\n "lines": 2}'


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[LedgerOnServers]:
    """A ledger that has worked for a while and rests. Tests plant in transactions that they roll back."""
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url) as made,
    ):
        await install(database_url, READ_MODELS)
        async with made.running(), projecting(made):
            await made.send(command("ada", "CREDIT_ADD", 100, metadata=METADATA, nonce="2026-01-01"))
            for number in range(20):
                await made.send(command(f"owner-{number}", "CREDIT_ADD", 10))
                await made.send(command(f"owner-{number}", "CREDIT_SPEND", -11))
            await until_projected(made, EVENTS)
            await made.until_published()
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def plant(ledger: LedgerOnServers) -> AsyncIterator[asyncpg.Connection]:
    """A transaction in which anything can be changed, triggers or not, as whoever has the disk could."""
    connection = await asyncpg.connect(ledger.database_url)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.execute("SET LOCAL session_replication_role = replica")
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest.fixture
def place(ledger: LedgerOnServers) -> int:
    """The partition of ada, which holds more than three events."""
    return ledger.partition("ada")


async def archived(
    connection: Any, folder: Path, extent: Extent | None = None, events_per_file: int = 1_000
) -> Archived:
    return await archive_events(connection, folder, extent or Extent(), lambda done, total: None, events_per_file)


async def joined(connection: Any, folder: Path) -> int:
    """Everything that `ledger verify --archive` does; how many events lie behind the archive."""
    manifest = await check_archive(folder, lambda done, total: None)
    return (await compare_with_record(connection, manifest)).kept


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


async def test_an_archive_is_begun_gone_on_with_and_verified(
    ledger: LedgerOnServers, place: int, tmp_path: Path
) -> None:
    environment = cli_environment(ledger, tmp_path)
    folder = tmp_path / "made" / "here"
    begun = await ledger_cli("archive", str(folder), "--up-to", f"{place}:3", "--json", environment=environment)
    assert begun.code == 0, begun.err
    assert (begun.document["archived_now"], begun.document["events"]) == (3, 3)
    async with ledger.pool.acquire() as connection:
        assert await joined(connection, folder) == EVENTS - 3
    gone_on = await ledger_cli("archive", str(folder), environment=environment)
    assert f"{EVENTS - 3} events archived" in gone_on.out
    whole = contents(folder)
    again, verified = await asyncio.gather(
        ledger_cli("archive", str(folder), "--json", environment=environment),
        ledger_cli("verify", "--archive", str(folder), "--json", environment=environment),
    )
    assert (again.code, again.document["archived_now"], again.document["events"]) == (0, 0, EVENTS)
    assert contents(folder) == whole, "run twice, it changes nothing"
    assert verified.code == 0, verified.err
    assert (verified.document["events"], verified.document["events_behind_it_in_the_record"]) == (EVENTS, 0)

    lines = [line for path in sorted(folder.glob("*/*.jsonl.gz")) for line in lines_of(path)]
    recorded = await ledger.events()
    assert [(line.partition, line.sequence, line.prev_hash, line.hash) for line in lines] == [
        (event.partition, event.sequence, event.prev_hash, event.hash) for event in recorded
    ]
    assert next(line for line in lines if line.metadata).metadata == METADATA


async def test_what_is_not_published_and_projected_stays_out(
    plant: asyncpg.Connection, place: int, tmp_path: Path
) -> None:
    await plant.execute("UPDATE ledger.partition_head SET published_sequence = 2 WHERE partition = $1", place)
    assert (await archived(plant, tmp_path)).manifest.last_of(place)[0] == 2
    await plant.execute("UPDATE ledger.partition_head SET published_sequence = sequence WHERE partition = $1", place)
    await plant.execute(
        "UPDATE projections.checkpoint SET sequence = 3 WHERE partition = $1 AND read_model = 'statements'", place
    )
    assert (await archived(plant, tmp_path)).manifest.last_of(place)[0] == 3


async def test_what_occurred_later_stays_out(plant: asyncpg.Connection, tmp_path: Path) -> None:
    times: list[datetime] = [
        row["occurred_at"] for row in await plant.fetch("SELECT occurred_at FROM ledger.event ORDER BY occurred_at")
    ]
    for before in (times[0], times[len(times) // 2], times[-1]):
        manifest = (await archived(plant, tmp_path / "one", Extent(before=before))).manifest
        assert manifest.events == sum(time < before for time in times)
    assert await joined(plant, tmp_path / "one") == sum(time == times[-1] for time in times)


async def test_cut_short_between_two_files_it_goes_on(plant: asyncpg.Connection, tmp_path: Path) -> None:
    whole = await archived(plant, tmp_path / "whole", events_per_file=4)
    assert len(whole.files) >= EVENTS // 4

    def interrupt(done: int, total: int) -> None:
        if done > EVENTS // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await archive_events(plant, tmp_path / "cut", Extent(), interrupt, 4)
    assert await joined(plant, tmp_path / "cut") > 0, "what is there of it is in order"
    assert not list((tmp_path / "cut").rglob(f"*{UNFINISHED}"))
    await archived(plant, tmp_path / "cut", events_per_file=4)
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


async def test_killed_before_a_file_was_listed_it_goes_on(plant: asyncpg.Connection, tmp_path: Path) -> None:
    await archived(plant, tmp_path, events_per_file=4)
    whole = contents(tmp_path)
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    # The file has its name, the manifest does not list it; and one was in the making.
    write_manifest(tmp_path, msgspec.structs.replace(manifest, files=manifest.files[:-1]))
    (tmp_path / manifest.files[0].path).with_name(f"events{UNFINISHED}").write_bytes(b"half of it")
    with pytest.raises(ArchiveViolation, match="not in the manifest"):
        await joined(plant, tmp_path)
    await archived(plant, tmp_path, events_per_file=4)
    assert contents(tmp_path) == whole


async def test_what_is_not_this_ledgers_archive_is_left_as_it_is(
    ledger: LedgerOnServers, plant: asyncpg.Connection, place: int, tmp_path: Path
) -> None:
    await archived(plant, tmp_path / "ours")
    ours = read_manifest(tmp_path / "ours")
    assert ours is not None
    write_archive(tmp_path / "other", [events_of(place, 3)])
    # A chain from another ledger, under the name of this one: by itself it is in order.
    write_archive(tmp_path / "forged", [events_of(place, 3)], ours.ledger_id)
    write_archive(tmp_path / "longer", [events_of(place, EVENTS + 1)], ours.ledger_id)
    write_archive(tmp_path / "nameless", [events_of(place, 3)])
    (tmp_path / "nameless" / MANIFEST).unlink()
    await archived(plant, tmp_path / "shorter", events_per_file=2)
    shorter = read_manifest(tmp_path / "shorter")
    assert shorter is not None
    (tmp_path / "shorter" / shorter.files[0].path).unlink()
    for name, refused, found in (
        ("other", "is the archive of ledger", "the database holds ledger"),
        ("forged", "the record holds another event there", "in the archive, the record has hash"),
        ("longer", "the record ends at", "the record ends at"),
        ("nameless", "no manifest", "has none"),
        ("shorter", "is missing", "it is missing"),
    ):
        before = contents(tmp_path / name)
        with pytest.raises(ArchiveRefusedError, match=refused):
            await archived(plant, tmp_path / name)
        with pytest.raises(ArchiveViolation, match=found):
            await joined(plant, tmp_path / name)
        assert contents(tmp_path / name) == before
    environment = cli_environment(ledger, tmp_path)
    told, named = await asyncio.gather(
        ledger_cli("archive", str(tmp_path / "other"), environment=environment),
        ledger_cli("verify", "--archive", str(tmp_path / "forged"), "--json", environment=environment),
    )
    assert told.code == 1
    assert "name another folder" in told.err
    assert named.code == 1
    assert named.document["violation"]["where"] == f"{place}:3"


async def test_a_forger_who_knows_how_is_found_by_the_record(
    plant: asyncpg.Connection, place: int, tmp_path: Path
) -> None:
    await archived(plant, tmp_path, Extent(up_to={place: 3}))
    forged = chained(
        msgspec.structs.replace(lines_of(next(tmp_path.glob("*/*.gz")))[-1], owner_id="mallory"),
        lines_of(next(tmp_path.glob("*/*.gz")))[-2].hash,
    )
    change_lines(tmp_path, 0, lambda events: [*events[:-1], forged])
    change_listing(tmp_path, 0, last_hash=forged.hash)
    await check_archive(tmp_path, lambda done, total: None)
    with pytest.raises(ArchiveViolation, match="in the archive, the record has hash") as found:
        await joined(plant, tmp_path)
    assert found.value.where == f"{place}:3"


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE ledger.event SET amount = amount + 1 WHERE partition = {p} AND sequence = 4", "does not follow"),
        ("DELETE FROM ledger.event WHERE partition = {p} AND sequence = 3", "the record lacks it"),
        ("DELETE FROM ledger.event WHERE partition = {p} AND sequence > 4", "events together, the head is at"),
        ("UPDATE ledger.partition_head SET sequence = 2 WHERE partition = {p}", "the record ends at"),
        ("UPDATE ledger.account SET balance = balance + 1 WHERE owner_id = 'ada'", "their balances make"),
    ],
    ids=["next event changed", "last event lost", "later events lost", "head gone back", "balance changed"],
)
async def test_a_record_that_does_not_go_on_is_named(
    plant: asyncpg.Connection, place: int, tmp_path: Path, statement: str, says: str
) -> None:
    await archived(plant, tmp_path, Extent(up_to={place: 3}))
    await plant.execute(statement.format(p=place))
    with pytest.raises(ArchiveViolation, match=says):
        await joined(plant, tmp_path)


async def test_a_record_that_is_not_sound_is_not_archived(
    plant: asyncpg.Connection, place: int, tmp_path: Path
) -> None:
    for statement in (
        "UPDATE ledger.event SET amount = amount + 1 WHERE partition = $1 AND sequence = 3",
        "DELETE FROM ledger.event WHERE partition = $1 AND sequence = 3",
    ):
        await plant.execute(statement, place)
        with pytest.raises(ArchiveRefusedError, match=f"the record is not sound at {place}:3"):
            await archived(plant, tmp_path, Extent(up_to={place: 4}))
        assert not list(tmp_path.glob("*/*"))


async def test_ctrl_c_leaves_nothing_unfinished(ledger: LedgerOnServers, tmp_path: Path) -> None:
    async with ledger.pool.acquire() as held:
        lock = held.transaction()
        await lock.start()
        await held.execute("LOCK TABLE ledger.event IN ACCESS EXCLUSIVE MODE")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "service.cli", "archive", str(tmp_path / "archive")),
            stderr=asyncio.subprocess.PIPE,
            env=cli_environment(ledger, tmp_path),
            cwd=ROOT,
            # Whoever runs the tests in the background has it ignored, and so would have this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        await ledger.until(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE NOT granted AND datname = current_database() AND application_name = 'ledger cli'",
            1,
        )
        process.send_signal(signal.SIGINT)
        _, err = await asyncio.wait_for(process.communicate(), WAIT_S)
        await lock.rollback()
    assert (process.returncode, err.decode().strip()) == (130, "interrupted")
    assert set(contents(tmp_path / "archive")) == {MANIFEST}


async def test_a_folder_or_a_partition_that_cannot_be_is_told(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)
    (tmp_path / "file").write_text("in the way")
    file, unknown = await asyncio.gather(
        ledger_cli("archive", str(tmp_path / "file"), environment=environment),
        ledger_cli("archive", str(tmp_path / "a"), "--up-to", "99:1", environment=environment),
    )
    assert (file.code, str(tmp_path / "file") in file.err) == (2, True)
    assert (unknown.code, "no partition 99" in unknown.err) == (1, True)


async def test_duckdb_reads_it_as_the_page_says(plant: asyncpg.Connection, tmp_path: Path) -> None:
    await archived(plant, tmp_path / "archive", events_per_file=7)
    (tmp_path / "analysis").mkdir()
    section = text_of("docs/operating.md").split("## Growth, retention, archiving\n", 1)[1].split("\n## ", 1)[0]
    [page] = re.findall(r"```sql\n(CREATE VIEW.*?)```", section, re.DOTALL)
    database = duckdb.connect()
    answers = [
        database.execute(statement).fetchall()
        for statement in re.sub("/(archive|analysis)", rf"{tmp_path}/\1", page).split(";")
        if statement.strip()
    ]
    totals = await plant.fetch(
        "SELECT app, operation, count(*), sum(amount)::bigint FROM ledger.event WHERE reason IS NULL GROUP BY 1, 2"
    )
    assert sorted(answers[1]) == sorted(map(tuple, totals))
    assert database.execute("SELECT count(*), count(metadata), min(nonce) FROM event").fetchone() == (
        EVENTS,
        1,
        await plant.fetchval('SELECT min(nonce COLLATE "C") FROM ledger.event'),
    )
    broken = database.execute(
        "SELECT count(*) FROM event AS one JOIN event AS next ON next.partition = one.partition "
        "AND next.sequence = one.sequence + 1 AND next.prev_hash <> one.hash"
    ).fetchone()
    assert broken == (0,)
    parquet = database.execute(f"SELECT count(*) FROM '{tmp_path}/analysis/events.parquet'").fetchone()
    assert parquet == (EVENTS,)
