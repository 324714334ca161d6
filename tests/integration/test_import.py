"""`ledger import` through Kafka, with two ledger consumers: every row is decided once, and in order."""

import csv
import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from projections.registry import READ_MODELS
from projections.versions import install
from tests.cli_process import ROOT, cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting

pytestmark = pytest.mark.integration

COLUMNS = ("owner_id", "nonce", "operation", "amount", "occurred_on", "note")
BANK = ROOT.parent / "shared" / "data" / "bank-transactions.csv"
"""Real bank transactions, beside the checkout where they may be used; they are no part of the project."""


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


def write(path: Path, rows: Sequence[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])


async def balances(ledger: LedgerOnServers) -> dict[str, int]:
    return {row["owner_id"]: row["balance"] for row in await ledger.pool.fetch("SELECT * FROM ledger.account")}


async def test_a_history_is_decided_in_its_order_and_once(ledger: LedgerOnServers, tmp_path: Path) -> None:
    chance = random.Random(7)
    expected: dict[str, int] = {}
    refused = 0
    rows: list[tuple[object, ...]] = []
    for number in range(600):
        owner = f"owner-{chance.randrange(20)}"
        amount = chance.choice((40, 25, -30, -60))
        operation = "CREDIT_ADD" if amount > 0 else "CREDIT_SPEND"
        rows.append((owner, f"n-{number}", operation, amount, "1993-01-05", f"row {number}"))
        # A spend that arrives before the credit it lives on would be refused: the order shows in the balances.
        if expected.get(owner, 0) + amount < 0:
            refused += 1
        else:
            expected[owner] = expected.get(owner, 0) + amount
    write(tmp_path / "history.csv", rows)
    environment = cli_environment(ledger, tmp_path / "home")
    arguments = ("import", str(tmp_path / "history.csv"), "--app", "example-app", "--json")
    async with ledger.running("one"), ledger.running("two"):
        first = await ledger_cli(*arguments, environment=environment, folder=tmp_path)
        assert first.code == 0, first.err
        assert (first.document["accepted"], first.document["refused"]) == (600 - refused, refused)
        assert first.document["refused_by_reason"] == {"INSUFFICIENT_CREDITS": refused}
        assert first.document["answered_by_first_outcome"] == 0
        assert await balances(ledger) == expected
        again = await ledger_cli(*arguments, environment=environment, folder=tmp_path)
        assert (again.document["accepted"], again.document["refused"]) == (600 - refused, refused)
        assert again.document["answered_by_first_outcome"] == 600
    assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.event") == 600
    assert await ledger.pool.fetchval('SELECT count(*) FROM ledger.event WHERE metadata LIKE \'{"note":"row %\'') == 600
    left = list(csv.DictReader((tmp_path / "history.refused.csv").read_text().splitlines()))
    assert [int(row["line"]) for row in left] == sorted(int(row["line"]) for row in left)
    assert {row["reason"] for row in left} == {"INSUFFICIENT_CREDITS"}
    assert len(left) == refused


async def test_bad_rows_stop_nothing_and_both_files_can_be_imported_after_mending(
    ledger: LedgerOnServers, tmp_path: Path
) -> None:
    path = tmp_path / "mixed.csv"
    good = [("ada", f"n-{number}", "CREDIT_ADD", 10, "1993-01-05", "") for number in range(3)]
    write(path, good)
    with path.open("ab") as file:
        file.write(b"ada,bad-1,CREDIT_ADD,ten,1993-01-06,\n")
        file.write(b"ada,bad-\xff,CREDIT_ADD,10,1993-01-06,not UTF-8\n")
        file.write(b'ada,bad-3,CREDIT_ADD,10,1993-01-06,"open\n')
        file.write(b"ada," + b"n" * 129 + b",CREDIT_ADD,10,1993-01-06,nonce too long\n")
        file.write(b"ada,n-0,CREDIT_ADD,10,1993-01-07,a nonce again\n")
        file.write(b"ada,big,CREDIT_SPEND,-5000,1993-01-07,\n")
        file.write(b"ada,odd,NO_SUCH_OPERATION,1,1993-01-07,\n")
        file.write(b"ada,n-9,CREDIT_ADD,12,1993-01-08,the last row\n")
    environment = cli_environment(ledger, tmp_path / "home")
    async with ledger.running():
        ended = await ledger_cli(
            "import", str(path), "--app", "example-app", "--json", environment=environment, folder=tmp_path
        )
        assert ended.code == 0, ended.err
        document = ended.document
        assert (document["accepted"], document["unreadable"], document["rows"]) == (4, 4, 11)
        assert document["refused_by_reason"] == {
            "DUPLICATE_NONCE": 1,
            "INSUFFICIENT_CREDITS": 1,
            "UNKNOWN_OPERATION": 1,
        }
        assert await balances(ledger) == {"ada": 42}
        refused, unreadable = tmp_path / "mixed.refused.csv", tmp_path / "mixed.unreadable.csv"
        assert [line.split(b",")[0] for line in unreadable.read_bytes().splitlines()[1:]] == [b"5", b"6", b"7", b"8"]
        mended = unreadable.read_bytes()
        mended = mended.replace(b",ten,", b",10,").replace(b"bad-\xff", b"bad-2").replace(b"n" * 129, b"n" * 128)
        mended = b"".join(line for line in mended.splitlines(keepends=True) if b"quotes" not in line)
        unreadable.write_bytes(mended)
        refused.write_text(refused.read_text().replace(",-5000,", ",-2,").replace("NO_SUCH_OPERATION", "CREDIT_ADD"))
        for left in (unreadable, refused):
            ended = await ledger_cli(
                "import", str(left), "--app", "example-app", "--json", environment=environment, folder=tmp_path
            )
            assert ended.code == 0, ended.err
        assert ended.document["refused_by_reason"] == {"DUPLICATE_NONCE": 1}
        assert await balances(ledger) == {"ada": 42 + 30 - 2 + 1}


async def test_a_file_or_an_app_that_is_not_there_is_said_before_anything_happens(
    ledger: LedgerOnServers, tmp_path: Path
) -> None:
    environment = cli_environment(ledger, tmp_path)
    (tmp_path / "no.csv").write_text("owner_id,nonce\n")
    for arguments, says in (
        (("absent.csv", "--app", "example-app"), "absent.csv"),
        (("no.csv", "--app", "example-app"), "operation, amount, occurred_on"),
        (("no.csv", "--app", "nobody"), "example-app"),
    ):
        ended = await ledger_cli("import", *arguments, environment=environment, folder=tmp_path)
        assert (ended.code, says in ended.err) == (2, True), ended.err


async def test_a_second_command_of_the_app_does_not_disturb_an_import(ledger: LedgerOnServers, tmp_path: Path) -> None:
    write(tmp_path / "one.csv", [("ada", f"n-{number}", "CREDIT_ADD", 1, "1993-01-05", "") for number in range(50)])
    environment = cli_environment(ledger, tmp_path)
    async with ledger.running():
        await ledger.send(*(command("ada", "CREDIT_ADD", 1) for _ in range(20)))
        ended = await ledger_cli(
            "import", str(tmp_path / "one.csv"), "--app", "example-app", environment=environment, folder=tmp_path
        )
        assert ended.code == 0, ended.err
    assert await balances(ledger) == {"ada": 70}


@pytest.mark.skipif(not BANK.exists(), reason="the bank's transactions do not lie beside this checkout")
async def test_a_bank_s_transactions_give_the_bank_s_balances_twice(ledger: LedgerOnServers, tmp_path: Path) -> None:
    environment = cli_environment(ledger, tmp_path / "home")
    async with ledger.running("one"), ledger.running("two"), projecting(ledger):
        for replayed in (0, 5_956):
            ended = await ledger_cli(
                "import", str(BANK), "--app", "example-app", "--json", environment=environment, folder=tmp_path
            )
            assert ended.code == 0, ended.err
            document = ended.document
            assert (document["rows"], document["accepted"]) == (5_956, 5_952)
            assert document["refused_by_reason"] == {"INSUFFICIENT_CREDITS": 4}
            assert document["answered_by_first_outcome"] == replayed
            found = await balances(ledger)
            assert (len(found), sum(found.values())) == (154, 485_027_440)
            assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.event") == 5_956
        shown = await ledger_cli("balance", "account-1539", "--json", environment=environment)
        assert shown.document["balance"] == 1_219_500
        verified = await ledger_cli("verify", "--kafka", "--json", environment=environment)
        assert verified.code == 0, verified.out
