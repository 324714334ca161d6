"""`ledger export`, `ledger import-record` and `ledger compare`: moving to another number of partitions."""

import csv
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ledger.domain.position import Position
from ledger.event_store.interventions import Deed, InterventionRefusedError, open_imported
from ledger.event_store.overview import read_overview
from ledger.event_store.protocol import CommitOutcomeUnknownError
from ledger.event_store.verification_checks import Violation
from service.archiving.lines import ArchivedEvent
from service.cli.operator_name import login
from service.cli.output import CliError, ExitCode
from service.cli.session import OWNER, JsonOption, Session, run
from service.moving.comparing import Compared, Difference, compare
from service.moving.export_files import (
    ExportError,
    Manifest,
    QuarantinedLine,
    read_lines,
    read_manifest,
)
from service.moving.exported_chain import read_events
from service.moving.exporting import export_record
from service.moving.importing import RecordImporter
from service.moving.new_topics import require_new_topics
from service.moving.placing import ImportRefusedError
from service.republishing.republish import RepublishRefusedError, require_nobody_at_work
from service.wiring import holder_name

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="The export.", show_default=False)]
POSITION_COLUMNS = ("app", "owner_id", "command_id", "old_position", "new_position", "old_entry_id", "new_entry_id")


def export_command(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to: a new folder, or an empty one.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Write the whole record into a folder: every event in the order in which it happened, the quarantine, and what
    operators did.

    One snapshot, beside a running ledger; each event's hash is computed again on its way. What is recorded later is not
    in it: for a move, stop the ledger consumers first. The files are gzipped JSON lines; `manifest.json`, written last,
    names them with their SHA-256 and tells the head of every partition.
    """
    run(as_json, lambda session: _export(session, folder))


def import_command(
    folder: FolderArgument,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why, for the record. Not given: which ledger is moved.")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who does it, for the record. Not given: your login.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an export the history of a new ledger, which may have another number of partitions.

    Every owner's events keep their order and what they say: amounts, balances, times, command ids, nonces. They get new
    places, and so new hashes. Run `ledger migrate` on the new database first, and start nothing before this is done.
    Cut short it is given again, and goes on where it was. See docs/scaling.md.
    """
    run(as_json, lambda session: _import(session, folder, reason, by))


def compare_command(
    folder: FolderArgument,
    exactly: Annotated[
        bool, typer.Option("--exactly", help="Refuse events that the record holds behind the export's too.")
    ] = False,
    positions: Annotated[
        Path | None,
        typer.Option("--positions", help="Write every event's old and new place to this CSV file."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare an export with this ledger, event by event: the one it was imported into, or the one it is of.

    Checks the export's files and hash chains as well. Names the first difference; the exit code is 1 then.
    """
    run(as_json, lambda session: _compare(session, folder, exactly, positions))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("export")(export_command)
    app.command("import-record")(import_command)
    app.command("compare")(compare_command)


async def _export(session: Session, folder: Path) -> ExitCode:
    began = time.monotonic()
    with _told_as_errors(), _progress(session, "exported") as show:
        async with session.connection() as connection:
            try:
                manifest = await export_record(connection, folder, show)
            except Violation as violation:
                raise CliError(
                    ExitCode.NO, f"the record is not sound, and was not exported: {violation}", "run `ledger verify`"
                ) from violation
            holders = {one.holder for one in (await read_overview(connection)).partitions if one.holder}
    if holders:
        session.output.note(
            f"the ledger goes on ({', '.join(sorted(holders))}): what it records from now on is not in the export"
        )
    elapsed_s = time.monotonic() - began
    files = [*manifest.event_files, manifest.quarantine, manifest.interventions]
    size = sum((folder / file.name).stat().st_size for file in files)
    session.output.result(
        {
            "folder": folder,
            "ledger_id": manifest.ledger_id,
            "partitions": manifest.partitions,
            "events": manifest.events,
            "quarantined": manifest.quarantine.lines,
            "bytes": size,
            "ledger_goes_on": bool(holders),
            "elapsed_s": round(elapsed_s, 3),
        },
        f"exported: {manifest.events:,} events of {manifest.partitions} partitions, {size:,} bytes, to {folder} in "
        f"{elapsed_s:.1f} s",
    )
    return ExitCode.OK


async def _import(session: Session, folder: Path, reason: str | None, by: str | None) -> ExitCode:
    began = time.monotonic()
    with _told_as_errors():
        manifest = read_manifest(folder)
        async with session.wiring.admin() as admin:
            await require_nobody_at_work(session.wiring, admin)
        async with session.connection() as connection:
            begun = any(one.sequence for one in (await read_overview(connection)).partitions)
        if not begun:
            await require_new_topics(session.wiring)
        store = session.wiring.store("ledger import-record")
        try:
            with _progress(session, "imported") as show:
                importer = RecordImporter(store, manifest, f"import {holder_name()}", show)
                imported = await importer.run(
                    read_events(folder, manifest), read_lines(folder, manifest.quarantine, QuarantinedLine)
                )
        except CommitOutcomeUnknownError as error:
            raise CliError(
                ExitCode.UNAVAILABLE, str(error), "give the import again: it goes on where it was"
            ) from error
        finally:
            await store.stop()
        deed = Deed(by or login(), reason or f"moved from {manifest.partitions} partitions")
        async with session.connection(OWNER) as connection:
            done = await open_imported(connection, manifest.apps, imported.epochs, deed, _source(manifest))
    elapsed_s = time.monotonic() - began
    session.output.result(
        {
            "from_ledger_id": manifest.ledger_id,
            "from_partitions": manifest.partitions,
            "partitions": len(imported.epochs),
            "events": imported.events,
            "quarantined": imported.quarantined,
            "intervention": done.number,
            "elapsed_s": round(elapsed_s, 3),
        },
        f"imported: {imported.events:,} events onto {len(imported.epochs)} partitions in {elapsed_s:.1f} s, noted as "
        f"intervention {done.number}. Now `ledger compare {folder}`, `ledger rebuild`, `ledger verify --no-kafka` and "
        "`ledger topics sync`; then start the ledger: it publishes every event on its own topics",
    )
    return ExitCode.OK


async def _compare(session: Session, folder: Path, exactly: bool, positions: Path | None) -> ExitCode:
    began = time.monotonic()
    with _told_as_errors(), _positions_file(positions) as note, _progress(session, "compared") as show:
        manifest = read_manifest(folder)
        async with session.connection() as connection:
            try:
                found = await compare(connection, manifest, read_events(folder, manifest), show, note)
                if exactly and found.later:
                    raise Difference("the end", f"the record holds {found.later:,} events that were recorded later")
            except Difference as difference:
                session.output.result(
                    {"same": False, "where": difference.where, "what": difference.what}, f"DIFFERENT: {difference}"
                )
                return ExitCode.NO
        # What of it is damaged shows in its lines; nothing compares it.
        for _ in read_lines(folder, manifest.quarantine, QuarantinedLine):
            pass
    elapsed_s = time.monotonic() - began
    session.output.result(_compared_document(manifest, found, elapsed_s), _compared_text(manifest, found, elapsed_s))
    return ExitCode.OK


def _compared_document(manifest: Manifest, found: Compared, elapsed_s: float) -> dict[str, Any]:
    return {
        "same": True,
        "export_of": {"ledger_id": manifest.ledger_id, "partitions": manifest.partitions},
        "ledger_id": found.identity.ledger_id,
        "partitions": found.identity.partitions,
        "events": found.events,
        "later": found.later,
        "elapsed_s": round(elapsed_s, 3),
    }


def _compared_text(manifest: Manifest, found: Compared, elapsed_s: float) -> str:
    later = f"; {found.later:,} more were recorded since" if found.later else ""
    return (
        f"the same: {found.events:,} events of ledger {manifest.ledger_id} ({manifest.partitions} partitions) are the "
        f"history of ledger {found.identity.ledger_id} ({found.identity.partitions} partitions), each owner's in its "
        f"order{later} ({elapsed_s:.1f} s)"
    )


def _source(manifest: Manifest) -> dict[str, Any]:
    """Where the history comes from, as the new record keeps it."""
    return {
        "ledger_id": str(manifest.ledger_id),
        "partitions": manifest.partitions,
        "exported_at": manifest.exported_at.isoformat(),
        "heads": {str(head.partition): f"{head.sequence} {head.hash}" for head in manifest.heads},
    }


@contextmanager
def _progress(session: Session, word: str) -> Iterator[Callable[[int, int], None]]:
    began = time.monotonic()
    with session.output.progress("events") as bars:
        task = bars.add_task(word, total=None, rate="")

        def show(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - began, 0.001)
            bars.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

        yield show


@contextmanager
def _positions_file(path: Path | None) -> Iterator[Callable[[ArchivedEvent, Position], None]]:
    if path is None:
        yield lambda event, position: None
        return
    with path.open("x", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(POSITION_COLUMNS)

        def note(event: ArchivedEvent, new: Position) -> None:
            old = Position(event.partition, event.sequence)
            writer.writerow((event.app, event.owner_id, event.command_id, old, new, old.entry_id, new.entry_id))

        yield note


@contextmanager
def _told_as_errors() -> Iterator[None]:
    """What a person can do something about, said as such."""
    try:
        yield
    except ExportError as error:
        raise CliError(ExitCode.NO, str(error)) from error
    except (ImportRefusedError, InterventionRefusedError, RepublishRefusedError) as error:
        raise CliError(ExitCode.NO, f"not imported: {error}", "see docs/scaling.md, 'Moving to a larger N'") from error
    except OSError as error:
        if error.filename is None:
            raise
        raise CliError(ExitCode.USAGE, f"{error.filename} cannot be written: {error.strerror}") from error
