"""An export that is damaged, cut short, or another than it says is refused by name, without a ledger at hand."""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ledger.domain.command import Command
from service.archiving.lines import ArchivedEvent
from service.moving import export_files
from service.moving.export_files import (
    MANIFEST,
    ExportedFile,
    ExportError,
    LinesWriter,
    Manifest,
    create_folder,
    read_lines,
    read_manifest,
    write_manifest,
)
from service.moving.exported_chain import checked, read_events
from tests.exports import BEGAN, OldRecord, old_record
from tests.ledger_on_servers import command

NAME = "events-000001.jsonl.gz"


def record() -> OldRecord:
    def sent(number: int) -> Command:
        return msgspec.structs.replace(
            command(f"o{number % 5}", "MOVE", 5, app="shop", metadata='{\n"a": "\\n"}'), issued_at=BEGAN
        )

    return old_record(3, [sent(number) for number in range(40)])


def write(folder: Path, events: Iterable[ArchivedEvent], manifest: Manifest) -> Manifest:
    create_folder(folder)
    writer = LinesWriter(folder, NAME)
    writer.write(list(events))
    file = writer.close()
    written = [LinesWriter(folder, name).close() for name in (export_files.QUARANTINE, export_files.INTERVENTIONS)]
    manifest = msgspec.structs.replace(
        manifest, event_files=[file], quarantine=written[0], interventions=written[1], events=file.lines
    )
    write_manifest(folder, manifest)
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    old = record()
    write(tmp_path / "export", old.exported, old.manifest)
    return tmp_path / "export"


def test_what_was_written_is_read(folder: Path) -> None:
    assert list(read_events(folder, read_manifest(folder))) == record_like(folder)
    assert not list(folder.glob("*.unfinished"))


def record_like(folder: Path) -> list[ArchivedEvent]:
    lines = gzip.decompress((folder / NAME).read_bytes()).splitlines()
    assert len(lines) == 40, "a line break within metadata is none of the file"
    return [msgspec.json.decode(line, type=ArchivedEvent) for line in lines]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda bytes_: bytes_[:-1], "is damaged behind line"),
        (lambda bytes_: bytes_[: len(bytes_) // 2], "is damaged behind line"),
        (lambda bytes_: b"", "has 0 lines, the manifest tells of 40"),
        (lambda bytes_: b"no gzip" + bytes_, "is damaged behind line 0"),
        (lambda bytes_: bytes_[:300] + b"\xff\x00" * 20 + bytes_[340:], "damaged|not an event|line"),
        (lambda bytes_: bytes_ + gzip.compress(b""), "is not the file that was written"),
        (lambda bytes_: gzip.compress(b"{}\n"), "line 1: .*required"),
        (lambda bytes_: gzip.compress(b"\xff\n"), "line 1"),
    ],
)
def test_a_damaged_file_is_refused(folder: Path, damage: Callable[[bytes], bytes], says: str) -> None:
    (folder / NAME).write_bytes(damage((folder / NAME).read_bytes()))
    with pytest.raises(ExportError, match=says):
        list(read_events(folder, read_manifest(folder)))


def test_a_line_without_end_is_not_read_into_memory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_files, "LINE_BYTES_MAX", 100)
    with pytest.raises(ExportError, match="line 1: longer than 100 bytes"):
        list(read_events(folder, read_manifest(folder)))


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / NAME).unlink()
    with pytest.raises(ExportError, match=f"{NAME} is missing"):
        list(read_events(folder, read_manifest(folder)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda told: "{", "is not the manifest of an export"),
        (lambda told: "[]", "is not the manifest of an export"),
        (lambda told: told | {"format": "ledger-archive"}, "this version reads 'ledger-export' 1"),
        (lambda told: told | {"version": 2}, "is of format 'ledger-export' 2"),
        (lambda told: told | {"strange": 1}, "unknown field"),
        (lambda told: told | {"events": 41}, "tells of 41 events"),
        (lambda told: told | {"heads": told["heads"][:-1]}, "does not name the heads of its 3 partitions"),
        (
            lambda told: told | {"quarantine": told["quarantine"] | {"name": "../../etc/passwd"}},
            "names a file outside of the export",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], Any], says: str
) -> None:
    told = change(json.loads((folder / MANIFEST).read_text()))
    (folder / MANIFEST).write_text(told if isinstance(told, str) else json.dumps(told))
    with pytest.raises(ExportError, match=says):
        read_manifest(folder)


def test_a_folder_without_a_manifest_is_no_export(folder: Path, tmp_path: Path) -> None:
    (folder / MANIFEST).unlink()
    for no_export in (folder, tmp_path / "nowhere"):
        with pytest.raises(ExportError, match="it has no manifest"):
            read_manifest(no_export)
    with pytest.raises(ExportError, match="is not empty: it holds"):
        create_folder(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda events: events[1:], "stands there"),
        (lambda events: [*events[:5], *events[6:]], "stands there|ends at"),
        (lambda events: [events[1], events[0], *events[2:]], "not in the order|stands there"),
        (lambda events: events[:-1], "its head is at"),
        (lambda events: [msgspec.structs.replace(events[0], amount=6), *events[1:]], "one of them was changed"),
        (lambda events: [msgspec.structs.replace(events[0], metadata="{}"), *events[1:]], "do not have the digest"),
        (lambda events: [msgspec.structs.replace(events[0], metadata_digest="xy"), *events[1:]], "digest"),
        (lambda events: [msgspec.structs.replace(events[0], partition=3), *events[1:]], "does not have"),
        (
            lambda events: [
                msgspec.structs.replace(events[0], metadata=None, occurred_at=BEGAN.replace(tzinfo=None)),
                *events[1:],
            ],
            "cannot be hashed",
        ),
    ],
)
def test_events_that_do_not_follow_one_another_are_refused(
    change: Callable[[list[ArchivedEvent]], list[ArchivedEvent]], says: str
) -> None:
    old = record()
    with pytest.raises(ExportError, match=says):
        list(checked(change(old.exported), old.manifest))


def test_an_app_that_the_manifest_does_not_name_is_refused() -> None:
    old = record()
    with pytest.raises(ExportError, match="is of 'shop', which the manifest does not name"):
        list(checked(old.exported, msgspec.structs.replace(old.manifest, apps=["bank"])))


def test_the_same_lines_make_the_same_file(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        writer = LinesWriter(tmp_path, name)
        writer.write([{"a": 1}])
        files.append(writer.close())
    assert files[0].sha256 == files[1].sha256
    assert list(read_lines(tmp_path, files[0], dict)) == [{"a": 1}]
    assert isinstance(files[0], ExportedFile)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: opened(Path("/dev/full"), "wb"))
    writer = LinesWriter(tmp_path, "events")
    writer.write([{"a": 1}])
    with pytest.raises(ExportError, match="events cannot be written: No space left"):
        writer.close()
    writer.abandon()
