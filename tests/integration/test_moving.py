"""A ledger moved to another number of partitions, on real servers: export, import, comparison, and life goes on."""

import csv
import gzip
import json
import shutil
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from apps.example_app.operations import ExampleAppOperations
from ledger.domain.command import Command
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.protocol import StoreUnavailableError
from ledger.messages.command_codec import encode_command
from projections.registry import READ_MODELS
from projections.versions import install
from service.moving import export_files, exporting, importing
from service.moving.export_files import MANIFEST, read_manifest
from service.moving.exported_chain import read_events
from service.moving.importing import RecordImporter
from tests.cli_process import Ended, cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import assert_read_models_equal_the_fold, projecting, until_projected
from tests.servers import fresh_database
from tests.till_operations import TillOperations

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

BEFORE: Final = 3
AFTER: Final = 8
OWNERS: Final = [f"owner-{number}" for number in range(12)]
CLASSES: Final = (ExampleAppOperations, TillOperations)
APPS: Final = "apps.example_app.operations:ExampleAppOperations,tests.till_operations:TillOperations"
BROKEN_METADATA: Final = '{"note":\n  "a line break",\r\n"n": 1.0}'


@dataclass
class Moved:
    """The old ledger, all commands that it was sent, and its export."""

    old: LedgerOnServers
    sent: list[Command]
    folder: Path
    servers: tuple[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return environment_of(self.old, self.folder.parent)


def environment_of(ledger: LedgerOnServers, home: Path) -> dict[str, str]:
    return cli_environment(ledger, home) | {"LEDGER_APPS": APPS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def moved(
    kafka_bootstrap: str, postgres_server_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Moved]:
    async with (
        fresh_database(postgres_server_url) as url,
        ledger_on_servers(kafka_bootstrap, url, BEFORE, CLASSES) as old,
    ):
        sent = history()
        async with old.running():
            await old.send(*sent)
            await old.send_bytes(b"{no json", b"owner-1")
            await old.send_bytes(None, None, partition=2)
            await old.until("SELECT sum(consumed)::bigint FROM ledger.partition_head", len(sent) + 2)
            await old.until_published()
        folder = tmp_path_factory.mktemp("moving") / "export"
        made = Moved(old, sent, folder, (kafka_bootstrap, postgres_server_url))
        exported = await ledger_cli("export", str(folder), "--json", environment=made.environment)
        assert exported.code == 0, exported.err
        assert exported.document["events"] == len(await old.events())
        assert (exported.document["quarantined"], exported.document["ledger_goes_on"]) == (2, False)
        yield made


def history() -> list[Command]:
    """Accepted and refused, sent again, of two apps, with metadata."""
    sent = []
    for number, owner in enumerate(OWNERS):
        sent.append(command(owner, "CREDIT_ADD", 100 + number, nonce="first", metadata=BROKEN_METADATA))
        sent.append(command(owner, "CREDIT_SPEND", -1000, nonce="too much"))
        sent.append(command(owner, "CREDIT_ADD", 7, nonce="first"))
        sent.append(command(owner, "CREDIT_SPEND", -number - 1, nonce="first", app="till"))
        sent.append(sent[-1])
    return sent


@asynccontextmanager
async def new_ledger(moved: Moved, partitions: int = AFTER) -> AsyncIterator[LedgerOnServers]:
    bootstrap, server_url = moved.servers
    async with fresh_database(server_url) as url, ledger_on_servers(bootstrap, url, partitions, CLASSES) as new:
        await install(url, READ_MODELS)
        yield new


async def cli(ledger: LedgerOnServers, moved: Moved, *arguments: str) -> Ended:
    return await ledger_cli(*arguments, environment=environment_of(ledger, moved.folder.parent))


async def imported(new: LedgerOnServers, moved: Moved) -> dict[str, Any]:
    ended = await cli(new, moved, "import-record", str(moved.folder), "--by", "grace", "--json")
    assert ended.code == 0, ended.err
    document: dict[str, Any] = ended.document
    return document


def by_owner(events: list[RecordedEvent]) -> dict[str, list[tuple[object, ...]]]:
    """What each owner's history says, without places."""
    histories: dict[str, list[tuple[object, ...]]] = defaultdict(list)
    for one in events:
        detail = None if one.reason == "DUPLICATE_NONCE" else one.detail
        metadata = None if one.metadata is None else bytes(one.metadata)
        histories[one.owner_id].append(
            (
                *(one.app, one.command_id, one.operation, one.amount, one.balance_after, one.account_version),
                *(one.nonce, one.issued_at, one.occurred_at, one.reason, detail, metadata),
            )
        )
    return dict(histories)


async def test_a_ledger_is_moved_and_goes_on(moved: Moved, tmp_path: Path) -> None:
    same = await cli(moved.old, moved, "compare", str(moved.folder), "--exactly", "--json")
    assert (same.code, same.document["same"], same.document["later"]) == (0, True, 0), same.out + same.err
    before = await moved.old.events()
    async with new_ledger(moved) as new:
        document = await imported(new, moved)
        assert (document["events"], document["partitions"], document["quarantined"]) == (len(before), AFTER, 2)
        places = tmp_path / "places.csv"
        compared = await cli(new, moved, "compare", str(moved.folder), "--positions", str(places), "--json")
        assert compared.code == 0, compared.out
        rebuilt = await cli(new, moved, "rebuild")
        assert rebuilt.code == 0, rebuilt.err
        verified = await cli(new, moved, "verify", "--no-kafka")
        assert verified.code == 0, verified.out

        after = await new.events()
        assert by_owner(after) == by_owner(before)
        assert {one.partition for one in after} == {new.partition(owner) for owner in OWNERS}
        at = {one.command_id: one.position for one in after}
        with places.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert {(row["command_id"], Position.parse(row["new_position"])) for row in rows} == {
            (str(command_id), position) for command_id, position in at.items()
        }

        async with new.running(), projecting(new):
            await new.until_published()
            await until_projected(new, len(after))
            # Everything that was ever sent, sent again: answered by the record, with the new places.
            await new.send(*moved.sent)
            await new.until("SELECT sum(consumed)::bigint FROM ledger.partition_head", len(after) + 2 + len(moved.sent))
            assert await new.pool.fetchval("SELECT count(*) FROM ledger.event") == len(after)
            # A used nonce under a new command id is refused, by name and with the place of its entry.
            again = command(OWNERS[0], "CREDIT_ADD", 5, nonce="first")
            left = [one.balance_after for one in after if one.owner_id == OWNERS[0]][-1]
            spent = command(OWNERS[0], "CREDIT_SPEND", -left, nonce="new")
            await new.send(again, spent)
            await new.until_events(len(after) + 2)
            await until_projected(new, len(after) + 2)
            await new.until_published()
        refused, accepted = (await new.event_of(again), await new.event_of(spent))
        assert (refused.reason, refused.detail) == ("DUPLICATE_NONCE", str(at[moved.sent[0].command_id]))
        assert (accepted.reason, accepted.balance_after) == (None, 0)
        replayed = {(one.command_id, one.position) for _, one in await new.published(new.topics.replays)}
        assert replayed == set(at.items())

        verified = await cli(new, moved, "verify")
        assert verified.code == 0, verified.out
        await assert_read_models_equal_the_fold(new)
        later = await cli(new, moved, "compare", str(moved.folder), "--json")
        assert (later.code, later.document["later"]) == (0, 2)
        assert (await cli(new, moved, "compare", str(moved.folder), "--exactly")).code == 1
        listed = await cli(new, moved, "recover", "list", "--json")
        [done] = listed.document
        assert (done["kind"], done["operator"], done["before"]["partitions"]) == ("import-record", "grace", BEFORE)
        waiting = await cli(new, moved, "quarantine", "list", "--json")
        assert sorted(one["reason"] for one in waiting.document) == ["NOT_JSON", "NULL_VALUE"]

        twice = await cli(new, moved, "import-record", str(moved.folder))
        assert (twice.code, "was imported into this ledger before" in twice.err) == (1, True), twice.err


@pytest.mark.slow
async def test_fewer_partitions_and_small_files_are_as_good(
    moved: Moved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "FILE_EVENTS_MAX", 10)
    monkeypatch.setattr(exporting, "WRITE_EVENTS", 4)
    connection = await asyncpg.connect(moved.old.database_url)
    manifest = await exporting.export_record(connection, tmp_path / "small", lambda done, total: None)
    await connection.close()
    assert [file.lines for file in manifest.event_files] == [12] * (manifest.events // 12)
    assert list(read_events(tmp_path / "small", manifest)) == list(
        read_events(moved.folder, read_manifest(moved.folder))
    )
    async with new_ledger(moved, 1) as new:
        await imported(new, moved)
        assert by_owner(await new.events()) == by_owner(await moved.old.events())
        again = await cli(new, moved, "import-record", str(moved.folder))
        assert (again.code, "was imported into this ledger before" in again.err) == (1, True), again.err


@pytest.mark.slow
async def test_a_consumer_that_is_started_in_the_middle_halts_and_the_import_goes_on_afterwards(
    moved: Moved, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_EVENTS_MAX", 10)
    manifest = read_manifest(moved.folder)

    def cut_short(done: int, total: int) -> None:
        if done == 20:
            raise StoreUnavailableError("the test pulls the plug")

    async with new_ledger(moved) as new:
        store = new.store("import")
        importer = RecordImporter(store, manifest, "import", cut_short)
        with pytest.raises(StoreUnavailableError):
            await importer.run(read_events(moved.folder, manifest), [])
        await store.stop()
        async with new.running():
            halted = "SELECT count(*) FROM ledger.partition_head WHERE halted_apps LIKE '%truncated or recreated%'"
            await new.until(halted, AFTER)
            await new.send_bytes(encode_command(command(OWNERS[0])), OWNERS[0].encode())
            refused = await cli(new, moved, "import-record", str(moved.folder))
            assert (refused.code, "ledger consumers or projection workers run" in refused.err) == (1, True)
        assert await new.pool.fetchval("SELECT count(*) FROM ledger.event") == 20
        await imported(new, moved)
        assert by_owner(await new.events()) == by_owner(await moved.old.events())
        async with new.running():
            # The command that came too early is decided now, on the whole history.
            await new.until_events(manifest.events + 1)


async def test_what_is_no_whole_export_or_no_new_ledger_is_refused_by_name(moved: Moved, tmp_path: Path) -> None:
    itself = await cli(moved.old, moved, "import-record", str(moved.folder))
    assert (itself.code, "which the export is of" in itself.err) == (1, True), itself.err
    taken = await cli(moved.old, moved, "export", str(moved.folder))
    assert (taken.code, "is not empty" in taken.err) == (1, True)
    nothing = await cli(moved.old, moved, "compare", str(tmp_path))
    assert (nothing.code, "it has no manifest.json" in nothing.err) == (1, True)
    async with new_ledger(moved, 2) as new:
        await new.send_bytes(b"of another ledger", b"x")
        used = await cli(new, moved, "import-record", str(moved.folder))
        assert (used.code, "hold records already" in used.err) == (1, True), used.err
    async with new_ledger(moved, 2) as new:
        missing = await cli(new, moved, "compare", str(moved.folder), "--json")
        assert (missing.code, missing.document["same"]) == (1, False)
        assert "the record does not hold it" in missing.document["what"]
        damaged = tmp_path / "damaged"
        shutil.copytree(moved.folder, damaged)
        name = "events-000001.jsonl.gz"
        lines = gzip.decompress((damaged / name).read_bytes()).splitlines(keepends=True)
        changed = [line.replace(b'"amount":100', b'"amount":900') for line in lines]
        assert changed != lines
        (damaged / name).write_bytes(gzip.compress(b"".join(changed)))
        refused = await cli(new, moved, "import-record", str(damaged))
        assert (refused.code, "one of them was changed" in refused.err) == (1, True), refused.err
        assert await new.pool.fetchval("SELECT count(*) FROM ledger.event") == 0
        (damaged / name).write_bytes(gzip.compress(b"".join(lines[:-1])))
        assert "has 47 lines, the manifest tells of 48" in (await cli(new, moved, "import-record", str(damaged))).err
        manifest = json.loads((moved.folder / MANIFEST).read_text())
        (damaged / MANIFEST).write_text(json.dumps(manifest | {"version": export_files.FORMAT_VERSION + 1}))
        assert "this version reads" in (await cli(new, moved, "import-record", str(damaged))).err


@pytest.mark.slow
async def test_a_record_that_was_changed_is_not_exported(moved: Moved, tmp_path: Path) -> None:
    async with new_ledger(moved, 2) as new:
        await imported(new, moved)
        await new.pool.execute("ALTER TABLE ledger.event DISABLE TRIGGER USER")
        await new.pool.execute("UPDATE ledger.event SET balance_after = balance_after + 1 WHERE sequence = 3")
        refused = await cli(new, moved, "export", str(tmp_path / "export"))
        assert (refused.code, "one of them was changed" in refused.err) == (1, True), refused.err
        assert not (tmp_path / "export" / MANIFEST).exists()
        different = await cli(new, moved, "compare", str(moved.folder), "--json")
        assert (different.code, "balance_after" in different.document["what"]) == (1, True)
