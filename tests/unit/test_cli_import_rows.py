"""The rows of an imported file: each for itself, whatever is wrong with its neighbours."""

import csv
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest

from service.importing.importer import digest_of, row_command_id
from service.importing.leftovers import Leftovers
from service.importing.rows import LINE_BYTES_MAX, CsvRows, HeaderError, Row

HEADER = "owner_id,nonce,operation,amount,occurred_on,note\n"
GOOD = "ada,n-1,CREDIT_ADD,100,1993-01-05,cash deposit\n"


def rows(text: str | bytes) -> list[Row]:
    content = text if isinstance(text, bytes) else text.encode()
    return list(CsvRows(io.BytesIO(content), "a file"))


def test_a_row_becomes_a_command() -> None:
    [row] = rows(HEADER + GOOD)
    assert row.line == 2
    assert row.request is not None
    assert (row.request.owner_id, row.request.nonce, row.request.operation) == ("ada", "n-1", "CREDIT_ADD")
    assert (row.request.amount, row.request.metadata) == (100, {"note": "cash deposit"})
    assert row.request.issued_at == datetime(1993, 1, 5, tzinfo=UTC)


def test_without_a_note_there_are_no_metadata() -> None:
    [row] = rows("owner_id,nonce,operation,amount,occurred_on\nada,n-1,CREDIT_ADD,100,1993-01-05\n")
    assert row.request is not None
    assert row.request.metadata is None


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ada,n-1,CREDIT_ADD,5.0,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,five,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,1e3,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,1_000,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,\u0661\u0662,1993-01-05,x", "amount"),
        ("ada,n-1,CREDIT_ADD,5,05.01.1993,x", "occurred_on"),
        ("ada,n-1,CREDIT_ADD,5,1993-02-30,x", "occurred_on"),
        ("ada,n-1,CREDIT_ADD,5,1993-01-05T00:00:00,x", "occurred_on"),
        ("ada,n-1,CREDIT_ADD,5,1993-01-05", "5 fields instead of 6"),
        ("ada,n-1,CREDIT_ADD,5,1993-01-05,x,y", "7 fields instead of 6"),
        ('ada,n-1,CREDIT_ADD,5,1993-01-05,"x', "quotes"),
        ('ada,n-1,CREDIT_ADD,5,1993-01-05,"x"y"z"', "quotes"),
    ],
)
def test_a_bad_row_between_two_good_ones_stops_nothing(line: str, why: str) -> None:
    first, bad, last = rows(HEADER + GOOD + line + "\n" + GOOD)
    assert first.request is not None
    assert bad.request is None
    assert why in str(bad.unreadable)
    assert (bad.line, last.line) == (3, 4)
    assert last.request is not None


def test_a_note_may_hold_line_breaks_commas_and_quotes() -> None:
    first, last = rows(HEADER + 'ada,n-1,CREDIT_ADD,5,1993-01-05,"one,\ntwo ""three"""\n' + GOOD)
    assert first.request is not None
    assert first.request.metadata == {"note": 'one,\ntwo "three"'}
    assert (first.line, last.line) == (2, 4)


def test_an_open_quote_takes_no_later_row_with_it() -> None:
    found = rows(HEADER + 'ada,n-1,CREDIT_ADD,5,1993-01-05,"open\n' + GOOD * 300)
    assert [row.request is None for row in found] == [True] + [False] * 300
    assert [row.line for row in found] == list(range(2, 303))


def test_a_line_too_long_is_one_unreadable_row() -> None:
    long = "ada,n-1,CREDIT_ADD,5,1993-01-05," + "x" * (2 * LINE_BYTES_MAX) + "\n"
    found = rows(HEADER + long + GOOD)
    assert [(row.line, row.request is None) for row in found] == [(2, True), (3, False)]


def test_bytes_that_are_no_text_are_kept_as_they_are(tmp_path: Path) -> None:
    content = HEADER.encode() + b"ada,n-\xff,CREDIT_ADD,five,1993-01-05,\xfe\n"
    [row] = rows(content)
    with Leftovers(tmp_path / "left.csv", HEADER.strip().split(",")) as leftovers:
        leftovers.add(row.line, row.fields, "UNREADABLE", str(row.unreadable))
    assert b"ada,n-\xff,CREDIT_ADD,five,1993-01-05,\xfe" in (tmp_path / "left.csv").read_bytes()


def test_empty_lines_windows_line_ends_and_a_byte_order_mark_do_no_harm() -> None:
    found = rows(b"\xef\xbb\xbf" + HEADER.replace("\n", "\r\n").encode() + b"\r\n" + GOOD.encode() + b"\n")
    assert [(row.line, row.request is not None) for row in found] == [(3, True)]


@pytest.mark.parametrize("header", ["", "owner_id,nonce\n", HEADER.replace("amount", "ammount"), "a,a,b\n"])
def test_a_header_that_lacks_a_column_is_refused(header: str) -> None:
    with pytest.raises(HeaderError, match="lacks"):
        rows(header + GOOD)


def test_a_column_named_twice_is_refused() -> None:
    with pytest.raises(HeaderError, match="twice"):
        rows("owner_id,nonce,operation,amount,occurred_on,owner_id\n")


def test_left_over_rows_can_be_imported_after_mending(tmp_path: Path) -> None:
    original = HEADER + "ada,n-1,CREDIT_ADD,five,1993-01-05,x\nada,n-2,CREDIT_ADD,5,1993-01-05\n"
    path = tmp_path / "left.csv"
    read = CsvRows(io.BytesIO(original.encode()), "a file")
    with Leftovers(path, read.columns) as leftovers:
        for row in read:
            leftovers.add(row.line, row.fields, "UNREADABLE", str(row.unreadable))
    written = list(csv.DictReader(path.read_text().splitlines()))
    assert [(row["line"], row["owner_id"], row["amount"]) for row in written] == [
        ("2", "ada", "five"),
        ("3", "ada", "5"),
    ]
    mended = (
        path.read_text().replace(",five,", ",5,").replace("n-2,CREDIT_ADD,5,1993-01-05", "n-2,CREDIT_ADD,5,1993-01-05,")
    )
    assert [row.request and row.request.nonce for row in rows(mended)] == ["n-1", "n-2"]


def test_rows_left_over_twice_do_not_collect_report_columns(tmp_path: Path) -> None:
    path = tmp_path / "left.csv"
    read = CsvRows(io.BytesIO(("line,reason,detail," + HEADER + "7,X,y," + GOOD).encode()), "a file")
    with Leftovers(path, read.columns) as leftovers:
        for row in read:
            leftovers.add(row.line, row.fields, "DUPLICATE_NONCE", "1:1")
    assert path.read_text().splitlines() == [
        "line,reason,detail," + HEADER.strip(),
        "2,DUPLICATE_NONCE,1:1," + GOOD.strip(),
    ]


def test_no_left_over_row_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "left.csv"
    path.write_text("of an earlier import")
    with Leftovers(path, ["owner_id"]):
        pass
    assert not path.exists()


def test_the_id_of_a_row_follows_from_the_file_and_the_line_alone() -> None:
    digest, lines = digest_of(io.BytesIO(b"one\ntwo\n"))
    assert lines == 2
    assert row_command_id(digest, 2) == row_command_id(digest, 2)
    assert len({row_command_id(digest, 2), row_command_id(digest, 3), row_command_id(digest + "x", 2)}) == 3
