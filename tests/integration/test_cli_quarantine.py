"""What an operator does with messages that cannot be read, by the command line, on real servers."""

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ledger.messages.command_codec import encode_command
from projections.registry import READ_MODELS
from projections.versions import install
from tests.cli_process import Ended, cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


async def test_messages_are_listed_shown_mended_retried_and_discarded(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)

    async def quarantine(*arguments: str) -> Ended:
        return await ledger_cli("quarantine", *arguments, "--json", environment=environment, folder=tmp_path)

    good = command("ada", "CREDIT_ADD", 5)
    wrong_place = (ledger.partition("ada") + 1) % ledger.partitions
    async with ledger.running():
        bad = await ledger.send_bytes(b'{"amount": "\x1b[31m5"', b"ada")
        stray = await ledger.send_bytes(encode_command(good), b"ada", partition=wrong_place)
        empty = await ledger.send_bytes(None, b"ada")
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 3)
        here = f"example-app:{ledger.partition('ada')}"

        listed = await quarantine("list")
        assert {one["id"]: one["reason"] for one in listed.document} == {
            f"{here}:{bad}": "NOT_JSON",
            f"{here}:{empty}": "NULL_VALUE",
            f"example-app:{wrong_place}:{stray}": "WRONG_PARTITION",
        }

        shown = await quarantine("show", f"{here}:{bad}", "--value-to", "value.json")
        assert base64.b64decode(shown.document["value_base64"]) == b'{"amount": "\x1b[31m5"'
        assert (tmp_path / "value.json").read_bytes() == b'{"amount": "\x1b[31m5"'
        text = await ledger_cli("quarantine", "show", f"{here}:{bad}", environment=environment)
        assert "\x1b" not in text.out
        assert "\\x1b[31m5" in text.out

        # Where the value says by itself where it belongs, key and partition are put right.
        retried = await quarantine("retry", f"example-app:{wrong_place}:{stray}", "--by", "grace")
        assert retried.code == 0, retried.err
        assert retried.document["partition"] == ledger.partition("ada")
        await ledger.until_events(1)

        # Where it does not, it would only come back.
        refused = await quarantine("retry", f"{here}:{bad}")
        assert (refused.code, "would only come back" in refused.err) == (1, True), refused.err
        (tmp_path / "mended.json").write_bytes(encode_command(command("ada", "CREDIT_ADD", 7)))
        mended = await quarantine("retry", f"{here}:{bad}", "--value", "mended.json")
        assert mended.code == 0, mended.err
        await ledger.until_events(2)

        discarded = await quarantine("discard", f"{here}:{empty}", "--reason", "sent by a test", "--by", "grace")
        assert discarded.code == 0, discarded.err
        again = await quarantine("retry", f"{here}:{empty}")
        assert (again.code, "discarded already" in again.err) == (1, True), again.err

    assert (await quarantine("list")).document == []
    everything = {one["id"]: one for one in (await quarantine("list", "--all")).document}
    assert everything[f"{here}:{empty}"]["resolution"] == "sent by a test (by grace)"
    assert everything[f"example-app:{wrong_place}:{stray}"]["resolution"].endswith("by grace")
    assert [event.amount for event in await ledger.events()] == [5, 7]
    verified = await ledger_cli("verify", "--kafka", environment=environment)
    assert verified.code == 0, verified.out


async def test_what_is_not_there_or_misspelt_is_said(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path)
    for arguments, code, says in (
        (("show", "example-app:0:7"), 1, "no message"),
        (("retry", "example-app:0:7"), 1, "no message"),
        (("show", "example-app"), 2, "APP:PARTITION:OFFSET"),
        (("retry", "example-app:0:7", "--value", "absent"), 2, "absent"),
    ):
        ended = await ledger_cli("quarantine", *arguments, environment=environment)
        assert (ended.code, says in ended.err) == (code, True), ended.err
