"""`ledger archive`, and what `ledger verify --archive` prints."""

import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from ledger.domain.position import Position
from service.archiving.archive import Archived, Extent, archive_events
from service.archiving.checking import ArchiveViolation, check_archive
from service.archiving.joining import Joined, compare_with_record
from service.archiving.manifest import ArchiveRefusedError, FolderError, Manifest
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run


def archive_command(
    folder: Annotated[Path, typer.Argument(help="The archive: a folder of its own, made where there is none.")],
    before: Annotated[
        str | None,
        typer.Option(
            "--before", help="Only events that occurred before: a date (UTC), or a time with its offset (RFC 3339)."
        ),
    ] = None,
    up_to: Annotated[
        list[str] | None,
        typer.Option(
            "--up-to",
            help="Only up to this position (PARTITION:SEQUENCE), and only this partition; may be given for several.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write events to files that prove themselves: compressed lines of JSON with their hash chain, and a manifest.

    Of each partition, what is published and projected, from the first event on; given again, it goes on where the
    archive ends, also after an interruption. The record keeps everything. Exit code 0 also when nothing was left to
    do; 1 when the folder is not this ledger's archive or the record is not sound.
    """
    run(as_json, lambda session: _archive(session, folder, before, up_to or []))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("archive")(archive_command)


async def verify_archive(session: Session, folder: Path, with_record: bool) -> ExitCode:
    """The work of `ledger verify --archive`."""
    began = time.monotonic()
    joined: Joined | None = None
    try:
        with session.output.progress("events") as bars:
            task = bars.add_task("archive", total=None, rate="")

            def show(done: int, total: int) -> None:
                rate = done / max(time.monotonic() - began, 0.001)
                bars.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

            manifest = await check_archive(folder, show)
        if with_record:
            async with (
                session.connection() as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                joined = await compare_with_record(connection, manifest)
    except FolderError as error:
        raise CliError(ExitCode.USAGE, str(error)) from error
    except ArchiveViolation as violation:
        session.output.result(
            {"verified": False, "violation": {"where": violation.where, "what": violation.what}},
            f"VIOLATION: {violation}",
        )
        return ExitCode.NO
    elapsed_s = time.monotonic() - began
    session.output.result(
        {
            "verified": True,
            **_told(folder, manifest),
            "events_behind_it_in_the_record": None if joined is None else joined.kept,
            "elapsed_s": round(elapsed_s, 3),
        },
        lambda console: _print_verified(console, manifest, joined, elapsed_s),
    )
    return ExitCode.OK


async def _archive(session: Session, folder: Path, before: str | None, up_to: Sequence[str]) -> ExitCode:
    extent = Extent(None if before is None else _time(before), dict(_position(one) for one in up_to))
    began = time.monotonic()
    try:
        async with session.connection() as connection:
            with session.output.progress("events") as bars:
                task = bars.add_task(folder.name, total=None, rate="")

                def show(done: int, total: int) -> None:
                    rate = done / max(time.monotonic() - began, 0.001)
                    bars.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

                archived = await archive_events(connection, folder, extent, show)
    except ArchiveRefusedError as error:
        raise CliError(ExitCode.NO, str(error), error.to_do) from error
    except FolderError as error:
        raise CliError(ExitCode.USAGE, str(error), "make room, or name another folder; then give it again") from error
    elapsed_s = time.monotonic() - began
    new = sum(file.events for file in archived.files)
    session.output.result(
        {
            **_told(folder, archived.manifest),
            "archived_now": new,
            "files_now": [file.path for file in archived.files],
            "elapsed_s": round(elapsed_s, 3),
        },
        lambda console: _print_archived(console, folder, archived, new, elapsed_s),
    )
    return ExitCode.OK


def _time(text: str) -> datetime:
    try:
        if len(text) == len("2026-01-31"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC)
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--before {text}: {error}", "give it as 2026-01-31") from error
    if time.tzinfo is None:
        raise CliError(ExitCode.USAGE, f"--before {text} names no offset", f"give it as {text}Z")
    return time


def _position(text: str) -> Position:
    try:
        return Position.parse(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--up-to: {error}") from error


def _told(folder: Path, manifest: Manifest) -> dict[str, Any]:
    ends = {partition: manifest.last_of(partition) for partition in range(manifest.partitions)}
    return {
        "archive": folder,
        "ledger_id": manifest.ledger_id,
        "events": manifest.events,
        "files": len(manifest.files),
        "bytes": manifest.bytes,
        "partitions": [
            {"partition": partition, "last_sequence": last, "last_hash": last_hash}
            for partition, (last, last_hash) in ends.items()
            if last
        ],
    }


def _print_archived(console: Console, folder: Path, archived: Archived, new: int, elapsed_s: float) -> None:
    if archived.files:
        rows = [
            (file.partition, file.first_sequence, file.last_sequence, file.bytes, file.path) for file in archived.files
        ]
        console.print(table(("partition", "from", "to", "bytes", "file"), rows))
    manifest = archived.manifest
    console.print(
        f"{new:,} events archived in {elapsed_s:.1f} s; {folder} holds {manifest.events:,} events in "
        f"{len(manifest.files):,} files ({manifest.bytes:,} bytes)"
    )


def _print_verified(console: Console, manifest: Manifest, joined: Joined | None, elapsed_s: float) -> None:
    console.print(
        f"verified: {manifest.events:,} archived events of ledger {manifest.ledger_id} in {len(manifest.files):,} "
        f"files ({manifest.bytes:,} bytes) in {elapsed_s:.1f} s: digests, hash chain, totals"
    )
    if joined is None:
        console.print("not compared with the record")
    else:
        console.print(
            f"the record goes on where it ends, with {joined.kept:,} events; all amounts together make the balances"
        )
