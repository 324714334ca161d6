"""`ledger import`."""

import time
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console

from producers import KafkaUnavailable, TopicUnusable
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run
from service.importing.importer import Importer, ImportReport, ImportStalledError, digest_of
from service.importing.leftovers import Leftovers
from service.importing.rows import CsvRows, HeaderError


def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV file with the columns owner_id, nonce, operation, amount, "
            "occurred_on (a date), and, if you like, note."
        ),
    ],
    app: Annotated[str, typer.Option("--app", help="The app to which the rows belong; see `ledger apps`.")],
    unreadable: Annotated[
        Path | None, typer.Option(help="Where unreadable rows go; FILE's name with .unreadable.csv, here.")
    ] = None,
    refused: Annotated[
        Path | None, typer.Option(help="Where refused rows go; FILE's name with .refused.csv, here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a history from a CSV file, in its order, and report what became of every row.

    A bad row stops nothing: rows that cannot be read and rows that the ledger refuses go to two files with their line
    and the reason, in the original columns, so that both can be mended and imported. Importing the same file again adds
    nothing: each row is answered by its first outcome. Exit code 0 when every row was worked through, also when some
    were refused; 3 when outcomes are missing: import the same file again then.
    """
    unreadable = unreadable or Path(f"{file.stem}.unreadable.csv")
    refused = refused or Path(f"{file.stem}.refused.csv")
    run(as_json, lambda session: _import(session, file, app, unreadable, refused))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_file)


async def _import(session: Session, path: Path, app: str, unreadable: Path, refused: Path) -> ExitCode:
    if app not in session.registry:
        known = ", ".join(session.registry) or "none"
        raise CliError(ExitCode.USAGE, f"there is no app {app!r}", f"registered apps: {known}")
    with _opened(path, (unreadable, refused)) as file:
        digest, lines = digest_of(file)
        try:
            rows = CsvRows(file, path)
        except HeaderError as error:
            raise CliError(ExitCode.USAGE, str(error)) from error
        began = time.monotonic()
        try:
            with (
                Leftovers(unreadable, rows.columns) as unreadable_rows,
                Leftovers(refused, rows.columns) as refused_rows,
                session.output.progress("lines") as bars,
            ):
                task = bars.add_task(path.name, total=lines, rate="")

                def show(line: int, report: ImportReport) -> None:
                    rate = report.rows / max(time.monotonic() - began, 0.001)
                    bars.update(task, completed=line, rate=f"{rate:,.0f}/s")

                async with session.wiring.client(app) as client:
                    importer = Importer(client, digest, unreadable_rows, refused_rows, show)
                    stalled: ImportStalledError | None = None
                    try:
                        await importer.run(rows)
                    except ImportStalledError as error:
                        stalled = error
        except OSError as error:
            if error.filename is None:
                raise
            raise CliError(ExitCode.USAGE, f"{error.filename} cannot be written: {error.strerror}") from error
        except (KafkaUnavailable, TopicUnusable) as error:
            raise CliError(ExitCode.UNAVAILABLE, str(error), "see `ledger status`") from error
    report = importer.report
    leftovers = {"unreadable": unreadable_rows, "refused": refused_rows}
    files = {name: leftover.path if leftover.rows else None for name, leftover in leftovers.items()}
    elapsed_s = time.monotonic() - began
    session.output.result(
        _document(report, files, elapsed_s, stalled), lambda console: _print(console, report, files, elapsed_s)
    )
    if stalled is not None:
        raise CliError(ExitCode.UNAVAILABLE, f"the import is not finished: {stalled}", "import the same file again")
    return ExitCode.OK


def _opened(path: Path, leftovers: tuple[Path, ...]) -> BinaryIO:
    for leftover in leftovers:
        if leftover.resolve() == path.resolve():
            raise CliError(ExitCode.USAGE, f"{leftover} is the file that is imported", "name another file for it")
    try:
        return path.open("rb")
    except OSError as error:
        raise CliError(ExitCode.USAGE, f"{path} cannot be read: {error.strerror}") from error


def _document(
    report: ImportReport, files: dict[str, Path | None], elapsed_s: float, stalled: ImportStalledError | None
) -> dict[str, Any]:
    return {
        "finished": stalled is None,
        "rows": report.rows,
        "accepted": report.accepted,
        "refused": report.refused.total(),
        "refused_by_reason": dict(sorted(report.refused.items())),
        "unreadable": report.unreadable,
        "answered_by_first_outcome": report.replayed,
        "files": files,
        "elapsed_s": round(elapsed_s, 3),
    }


def _print(console: Console, report: ImportReport, files: dict[str, Path | None], elapsed_s: float) -> None:
    rows: list[tuple[str, int]] = [("accepted", report.accepted)]
    rows += [(f"refused: {reason}", count) for reason, count in sorted(report.refused.items())]
    rows += [("unreadable", report.unreadable), ("all rows", report.rows)]
    console.print(table(("what became of them", "rows"), rows))
    if report.replayed:
        console.print(f"{report.replayed:,} rows were decided by an earlier import: their first outcome is the answer")
    for name, path in files.items():
        if path is not None:
            console.print(f"{name} rows: {path} (mend it and import it)")
    console.print(f"{elapsed_s:.1f} s, {report.rows / max(elapsed_s, 0.001):,.0f} rows/s")
