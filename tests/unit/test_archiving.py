"""An archive proves itself: whatever is done to its files is named, without a ledger at hand."""

import asyncio
import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest
from typer.testing import CliRunner

from service.archiving.checking import ArchiveViolation, check_archive
from service.archiving.lines import decode_line, encode_line
from service.archiving.manifest import (
    MANIFEST,
    ArchiveRefusedError,
    FolderError,
    Manifest,
    locked,
    read_manifest,
    write_manifest,
)
from service.archiving.writing import file_of_events
from service.cli.app import app
from tests.archives import (
    LEDGER_ID,
    chained,
    change_lines,
    change_listing,
    events_of,
    lines_of,
    write_archive,
)

SECOND = "partition-0000/events-000000000021-000000000040.jsonl.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files of partition 0, one of partition 2."""
    first = events_of(0, 40)
    write_archive(tmp_path / "archive", [first[:20], first[20:], events_of(2, 5)])
    return tmp_path / "archive"


async def test_an_archive_that_nobody_touched_is_in_order(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = await check_archive(folder, lambda done, total: told.append((done, total)))
    assert manifest.events == 45
    assert manifest.last_of(0) == (40, events_of(0, 40)[-1].hash)
    assert manifest.last_of(1) == (0, "0" * 64)
    assert told[0] == (0, 45)
    assert told[-1] == (45, 45)
    assert [file.amounts for file in manifest.files] == [{"credits": 160}, {"credits": 160}, {"credits": 40}]


def test_everything_that_an_event_holds_comes_back() -> None:
    event = msgspec.structs.replace(
        events_of(1, 3)[-1],
        owner_id="Ärger\t😀 \u2028",
        nonce='"\\',
        issued_at=datetime(1, 1, 1, tzinfo=UTC),
        occurred_at=datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        amount=-(2**53 - 1),
    )
    line = encode_line(event)
    assert line.count(b"\n") == 1
    assert decode_line(line) == event
    assert list(json.loads(line)) == list(event.__struct_fields__), "no field is left out"


def test_the_same_events_make_the_same_file(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_archive(tmp_path / name, [events_of(3, 30)])
    assert (tmp_path / "one" / MANIFEST).read_bytes() == (tmp_path / "two" / MANIFEST).read_bytes()
    [first] = (tmp_path / "one").glob("*/*.gz")
    assert first.read_bytes() == (tmp_path / "two" / first.relative_to(tmp_path / "one")).read_bytes()


def test_a_file_that_is_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with file_of_events(tmp_path, 0, "0" * 64) as file:
            file.add(events_of(0, 3))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.glob("*/*")) == []


def test_a_disk_that_refuses_is_not_taken_for_postgres(tmp_path: Path) -> None:
    (tmp_path / "partition-0000").write_text("in the way")
    with pytest.raises(FolderError, match="partition-0000"), file_of_events(tmp_path, 0, "0" * 64):
        pass


def _flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / SECOND).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SECOND).write_bytes(data)


def _remove_a_file(folder: Path) -> None:
    (folder / SECOND).unlink()


def _cut_off_in_the_middle(folder: Path) -> None:
    data = (folder / SECOND).read_bytes()
    (folder / SECOND).write_bytes(data[: len(data) // 2])


def _cut_off_and_mend_the_digest(folder: Path) -> None:
    _cut_off_in_the_middle(folder)
    data = (folder / SECOND).read_bytes()
    change_listing(folder, 1, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _put_something_else_there(folder: Path) -> None:
    (folder / SECOND).write_bytes(b"not packed\n")
    change_listing(folder, 1, bytes=11, sha256=hashlib.sha256(b"not packed\n").hexdigest())


def _break_a_line(folder: Path) -> None:
    data = gzip.compress(gzip.decompress((folder / SECOND).read_bytes()).replace(b'"sequence":25', b'"sequence":"25"'))
    (folder / SECOND).write_bytes(data)
    change_listing(folder, 1, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


def _change_an_amount(folder: Path) -> None:
    change_lines(folder, 1, lambda events: [*events[:4], msgspec.structs.replace(events[4], amount=1_000), *events[5:]])


def _change_an_event_and_its_hash(folder: Path) -> None:
    change_lines(
        folder,
        1,
        lambda events: [
            *events[:4],
            chained(msgspec.structs.replace(events[4], owner_id="mallory"), events[3].hash),
            *events[5:],
        ],
    )


def _change_metadata(folder: Path) -> None:
    change_lines(
        folder, 1, lambda events: [*events[:3], msgspec.structs.replace(events[3], metadata="{}"), *events[4:]]
    )


def _call_a_refusal_an_entry(folder: Path) -> None:
    change_lines(
        folder, 1, lambda events: [*events[:4], msgspec.structs.replace(events[4], type="entry_posted"), *events[5:]]
    )


def _leave_an_event_out(folder: Path) -> None:
    change_lines(folder, 1, lambda events: events[:4] + events[5:])


def _leave_the_last_events_out(folder: Path) -> None:
    change_lines(folder, 1, lambda events: events[:-2])


def _tell_an_event_twice(folder: Path) -> None:
    change_lines(folder, 1, lambda events: [*events[:5], events[4], *events[5:]])


def _put_in_the_chain_of_another_ledger(folder: Path) -> None:
    other = events_of(0, 40, ledger_id=UUID(int=7))
    change_lines(folder, 1, lambda events: other[20:])


def _say_other_totals(folder: Path) -> None:
    change_listing(folder, 1, amounts={"credits": 161})


def _say_another_last_hash(folder: Path) -> None:
    change_listing(folder, 1, last_hash="a" * 64)


def _forget_a_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    write_manifest(folder, msgspec.structs.replace(manifest, files=manifest.files[:1] + manifest.files[2:]))


def _forget_the_first_file(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest is not None
    (folder / manifest.files[0].path).unlink()
    write_manifest(folder, msgspec.structs.replace(manifest, files=manifest.files[1:]))


def _lead_out_of_the_folder(folder: Path) -> None:
    change_listing(folder, 1, path="../elsewhere.jsonl.gz")


def _shift_a_copy_in(folder: Path) -> None:
    shutil.copy(folder / SECOND, folder / "partition-0000/events-000000000041-000000000060.jsonl.gz")


def _cut_the_manifest(folder: Path) -> None:
    path = folder / MANIFEST
    path.write_bytes(path.read_bytes()[:-20])


def _remove_the_manifest(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def _be_of_a_later_version(folder: Path) -> None:
    write_manifest(folder, Manifest(version=2, ledger_id=LEDGER_ID, partitions=4))


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        (_flip_a_bit, SECOND, "its SHA-256 is .* it was changed"),
        (_remove_a_file, SECOND, "it is missing, with 20 events"),
        (_cut_off_in_the_middle, SECOND, "bytes long instead of .*: it was cut"),
        (_cut_off_and_mend_the_digest, SECOND, "cannot be unpacked"),
        (_put_something_else_there, SECOND, "cannot be unpacked"),
        (_break_a_line, "0:25", "its line is no archived event"),
        (_change_an_amount, "0:25", "one of them was changed"),
        (_change_an_event_and_its_hash, "0:26", "the event before it has hash"),
        (_change_metadata, "0:24", "its metadata do not have the digest"),
        (_call_a_refusal_an_entry, "0:25", "its type 'entry_posted' is not that"),
        (_leave_an_event_out, "0:25", "the event 0:26 stands there"),
        (_leave_the_last_events_out, SECOND, "its path is .*-000000000038"),
        (_tell_an_event_twice, "0:26", "the event 0:25 stands there"),
        (_put_in_the_chain_of_another_ledger, "0:21", "it follows .*, but the event before it has hash"),
        (_say_other_totals, SECOND, "its amounts is {'credits': 160}, the manifest says {'credits': 161}"),
        (_say_another_last_hash, SECOND, "its last_hash is"),
        (_forget_a_file, SECOND, "it is not in the manifest"),
        (_forget_the_first_file, MANIFEST, "goes on with 0:21 behind 0:0"),
        (_lead_out_of_the_folder, MANIFEST, "'../elsewhere.jsonl.gz'"),
        (_shift_a_copy_in, "partition-0000/events-000000000041-000000000060.jsonl.gz", "it is not in the manifest"),
        (_cut_the_manifest, MANIFEST, "is damaged"),
        (_remove_the_manifest, MANIFEST, "has none"),
        (_be_of_a_later_version, MANIFEST, "of version 1"),
    ],
    ids=lambda value: value.__name__.strip("_").replace("_", " ") if callable(value) else "",
)
async def test_what_was_done_to_it_is_named(
    folder: Path, change: Callable[[Path], None], where: str, what: str
) -> None:
    change(folder)
    with pytest.raises(ArchiveViolation, match=what) as found:
        await check_archive(folder, lambda done, total: None)
    assert found.value.where == where


async def test_a_file_that_is_listed_in_the_next_moment_is_none_too_many(folder: Path) -> None:
    whole = read_manifest(folder)
    assert whole is not None
    write_manifest(folder, msgspec.structs.replace(whole, files=whole.files[:-1]))

    def listed(done: int, total: int) -> None:
        assert total == 40, "what is checked is what was listed when it began"

    checking = asyncio.create_task(check_archive(folder, listed))
    await asyncio.sleep(0)  # it has read the manifest, seen the file, and waits
    write_manifest(folder, whole)
    await checking


def test_only_one_writes_an_archive_at_a_time(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ArchiveRefusedError, match="another `ledger archive` writes"),
        locked(tmp_path),
    ):
        pass
    with locked(tmp_path):
        pass


def test_a_line_is_read_back_from_the_file(folder: Path) -> None:
    assert lines_of(folder / SECOND) == events_of(0, 40)[20:]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("archive", "a", "--before", "yesterday"), "--before yesterday"),
        (("archive", "a", "--before", "2026-01-01T00:00:00"), "names no offset"),
        (("archive", "a", "--up-to", "7"), "not a position"),
        (("verify", "--no-record"), "--archive"),
        (("verify", "--archive", "a", "--kafka"), "Kafka"),
    ],
)
def test_a_mistake_on_the_command_line_is_told(words: tuple[str, ...], says: str) -> None:
    ended = CliRunner().invoke(app, words)
    assert (ended.exit_code, says in ended.stderr) == (2, True), ended.output


def test_an_archive_is_verified_where_no_ledger_is(folder: Path) -> None:
    words = ("verify", "--archive", str(folder), "--no-record", "--json")
    ended = CliRunner().invoke(app, words)
    assert (ended.exit_code, json.loads(ended.stdout)["events"]) == (0, 45), ended.output
    _flip_a_bit(folder)
    ended = CliRunner().invoke(app, words)
    assert (ended.exit_code, json.loads(ended.stdout)["violation"]["where"]) == (1, SECOND), ended.output
