"""The command line against a running ledger: results, JSON, errors and exit codes."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.broker.protocol import TopicSpec
from projections.registry import READ_MODELS
from projections.versions import install
from tests.cli_process import cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


async def test_a_command_is_published_and_its_balance_and_entries_are_read(
    ledger: LedgerOnServers, tmp_path: Path
) -> None:
    environment = cli_environment(ledger, tmp_path)
    async with ledger.running(), projecting(ledger):
        posted = await ledger_cli(
            "publish",
            "CREDIT_ADD",
            "ada",
            "--amount",
            "12",
            "--metadata",
            '{"order": 1}',
            "--json",
            environment=environment,
        )
        assert posted.code == 0, posted.err
        assert (posted.document["type"], posted.document["balance_after"]) == ("entry_posted", 12)
        again = await ledger_cli(
            "publish",
            "CREDIT_ADD",
            "ada",
            "--command-id",
            posted.document["command_id"],
            "--json",
            environment=environment,
        )
        assert (again.document["position"], again.document["replayed"]) == (posted.document["position"], True)
        refused = await ledger_cli(
            "publish", "CREDIT_SPEND", "ada", "--amount", "-500", "--json", environment=environment
        )
        assert (refused.code, refused.document["reason"]) == (1, "INSUFFICIENT_CREDITS")
        place = refused.document["position"]
        balance = await ledger_cli("balance", "ada", "--min-position", place, "--json", environment=environment)
        assert (balance.document["balance"], balance.document["accounts"][0]["entries"]) == (12, 1)
        shown = await ledger_cli(
            "entries", "ada", "--rejections", "--min-position", place, "--json", environment=environment
        )
        assert [entry["amount"] for entry in shown.document["entries"]] == [0, 12]
        nobody = await ledger_cli("balance", "nobody", "--json", environment=environment)
        assert (nobody.code, nobody.document["balance"]) == (0, 0)
        unsent = await ledger_cli("publish", "CREDIT_ADD", "x" * 129, environment=environment)
        assert (unsent.code, "owner_id" in unsent.err) == (2, True), unsent.err


async def test_events_are_watched(ledger: LedgerOnServers, tmp_path: Path) -> None:
    async with ledger.running():
        await ledger.send(
            command("ada", "CREDIT_ADD", 1), command("ada", "CREDIT_ADD", 2), command("bob", "CREDIT_ADD")
        )
        await ledger.until_events(3)
        await ledger.until_published()
        ended = await ledger_cli(
            "watch",
            "--from-start",
            "--owner",
            "ada",
            "--count",
            "2",
            "--json",
            environment=cli_environment(ledger, tmp_path),
        )
    assert ended.code == 0, ended.err
    assert [json.loads(line)["amount"] for line in ended.out.splitlines()] == [1, 2]


async def test_status_names_what_needs_an_operator(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)
    async with ledger.running(), projecting(ledger):
        await ledger.send(command("ada", "CREDIT_ADD", 1))
        await until_projected(ledger, 1)
        calm = await ledger_cli("status", "--json", environment=environment)
        assert (calm.code, calm.document["problems"]) == (0, []), calm.out
        assert (calm.document["events"], calm.document["commands_waiting"]) == (1, 0)
        await ledger.send_bytes(b"not json", b"ada")
        await ledger.admin.create([TopicSpec(ledger.topics.commands("stranger"), ledger.partitions, 1, -1)])
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 1)
        found = await ledger_cli("status", "--json", environment=environment)
        assert found.code == 1
        assert any("stranger" in problem for problem in found.document["problems"])
        assert any("quarantine" in problem for problem in found.document["problems"])
    await ledger.send(command("ada", "CREDIT_ADD", 1))
    alone = await ledger_cli("status", environment=environment)
    assert alone.code == 1
    assert "no ledger consumer holds" in alone.out
    waiting = await ledger_cli("partitions", "--json", environment=environment)
    assert [one["commands_waiting"] for one in waiting.document if one["partition"] == ledger.partition("ada")] == [1]


async def test_topics_are_checked_made_and_refused_by_name(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)
    prefix = f"{ledger.topics.prefix}x"
    environment["LEDGER_TOPIC_PREFIX"] = prefix
    missing = await ledger_cli("topics", "check", "--json", environment=environment)
    assert (missing.code, len(missing.document["missing"])) == (1, 4)
    await ledger.admin.create([TopicSpec(f"{prefix}.commands.example-app", ledger.partitions + 1, 1, -1)])
    made = await ledger_cli("topics", "sync", "--json", environment=environment)
    assert made.code == 1
    assert [wrong["topic"] for wrong in made.document["wrong_size"]] == [f"{prefix}.commands.example-app"]
    assert len(made.document["created"]) == 3
    status = await ledger_cli("status", "--json", environment=environment)
    [named] = [problem for problem in status.document["problems"] if "topic" in problem]
    size = f"has {ledger.partitions + 1} partitions instead of {ledger.partitions}"
    assert named == f"topic {prefix}.commands.example-app {size}: it is not consumed"


async def test_read_models_are_rebuilt(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)
    async with ledger.running():
        await ledger.send(command("ada", "CREDIT_ADD", 4))
        await ledger.until_events(1)
    ended = await ledger_cli("rebuild", "--json", environment=environment)
    assert ended.code == 0, ended.err
    assert {(one["read_model"], one["version"]) for one in ended.document} == {("balances", 2), ("statements", 2)}
    assert (await ledger_cli("balance", "ada", "--json", environment=environment)).document["balance"] == 4
    unknown = await ledger_cli("rebuild", "nonsense", environment=environment)
    assert (unknown.code, "balances" in unknown.err) == (2, True), unknown.err


async def test_nothing_running_and_wrong_settings_are_said_with_what_to_do(tmp_path: Path) -> None:
    import os

    bare = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    bare |= {"LEDGER_HOME": str(tmp_path), "LEDGER_STACK": "local"}
    nothing = await ledger_cli("status", environment=bare)
    assert (nothing.code, "ledger up" in nothing.err) == (3, True), nothing.err
    as_json = await ledger_cli("status", "--json", environment=bare)
    assert json.loads(as_json.err)["exit_code"] == 3
    wrong = await ledger_cli("status", environment=bare | {"LEDGER_PARTITIONS": "many"})
    assert (wrong.code, "LEDGER_PARTITIONS" in wrong.err) == (2, True), wrong.err
    nowhere = {
        "LEDGER_STACK": "external",
        "LEDGER_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "LEDGER_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:1/none",
    }
    away = await ledger_cli("balance", "ada", environment=bare | nowhere)
    assert (away.code, "Postgres" in away.err) == (3, True), away.err
    assert "secret" not in away.err
    unmigrated = await ledger_cli("nonsense", environment=bare)
    assert unmigrated.code == 2


async def test_an_empty_database_is_migrated_once_and_keeps_its_number_of_partitions(
    kafka_bootstrap: str, empty_database_url: str, tmp_path: Path
) -> None:
    import os

    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")} | {
        "LEDGER_HOME": str(tmp_path),
        "LEDGER_STACK": "external",
        "LEDGER_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "LEDGER_DATABASE_URL": empty_database_url,
        "LEDGER_PARTITIONS": "3",
    }
    before = await ledger_cli("balance", "ada", environment=environment)
    assert (before.code, "ledger migrate" in before.err) == (1, True), before.err
    first = await ledger_cli("migrate", "--json", environment=environment)
    assert (first.code, first.document["partitions"]) == (0, 3), first.err
    assert (await ledger_cli("migrate", "--json", environment=environment)).document == first.document
    other = await ledger_cli("migrate", environment=environment | {"LEDGER_PARTITIONS": "4"})
    assert (other.code, "LEDGER_PARTITIONS=3" in other.err) == (1, True), other.err
