"""`ledger verify`."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from ledger.broker.protocol import BrokerUnavailableError, RecordReader
from ledger.event_store.verification_checks import NOT_IN_STORED_DATA, Check, Violation
from service.cli.archiving import verify_archive
from service.cli.output import CliError, ExitCode
from service.cli.session import JsonOption, Session, run
from service.verification.everything import Everything, verify_everything


def verify(
    kafka: Annotated[
        bool | None,
        typer.Option("--kafka/--no-kafka", help="Compare ledger.events as well. Not given: if Kafka answers."),
    ] = None,
    archive: Annotated[
        Path | None,
        typer.Option(
            "--archive", help="Check this archive instead: its files, its chain, and that the record goes on."
        ),
    ] = None,
    record: Annotated[
        bool, typer.Option("--record/--no-record", help="Whether to compare an archive with the record too.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Check the invariants of the ledger as far as stored data can show them, over all partitions.

    Reads everything once, in one snapshot, beside a running ledger. Names the first violation with its position; the
    exit code is 1 then. With --archive and --no-record nothing but the files is needed.
    """
    run(as_json, lambda session: _chosen(session, kafka, archive, record))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


async def _chosen(session: Session, kafka: bool | None, archive: Path | None, record: bool) -> ExitCode:
    if archive is not None and kafka is not None:
        raise CliError(ExitCode.USAGE, "an archive is not compared with Kafka", "leave --kafka or --no-kafka out")
    if archive is None and not record:
        raise CliError(ExitCode.USAGE, "--no-record says nothing without --archive", "name the archive's folder")
    return await (_verify(session, kafka) if archive is None else verify_archive(session, archive, record))


async def _verify(session: Session, kafka: bool | None) -> ExitCode:
    output = session.output
    reader: RecordReader | None = None
    if kafka is not False:
        reader = session.wiring.reader()
        try:
            await reader.start()
        except BrokerUnavailableError as error:
            if kafka:
                raise
            output.note(f"Kafka does not answer, so ledger.events is not compared: {error}")
            reader = None
    began = time.monotonic()
    try:
        async with session.connection() as connection:
            with output.progress("") as progress:
                bars = _Bars(progress)
                found = await verify_everything(connection, reader, session.topics, bars.show)
    except Violation as violation:
        output.result(
            {
                "verified": False,
                "violation": {
                    "invariant": violation.check.invariant,
                    "meaning": violation.check.meaning,
                    "where": violation.where,
                    "what": violation.what,
                },
            },
            f"VIOLATION: {violation}",
        )
        return ExitCode.NO
    finally:
        if reader is not None:
            await reader.stop()
    elapsed_s = time.monotonic() - began
    output.result(_document(found, elapsed_s), lambda console: _print(console, found, elapsed_s))
    return ExitCode.OK


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, tuple[TaskID, float]] = {}

    def show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = (self._progress.add_task(what, total=total, rate=""), time.monotonic())
        task, began = self._tasks[what]
        elapsed_s = max(time.monotonic() - began, 0.001)
        self._progress.update(task, completed=done, total=total, rate=f"{done / elapsed_s:,.0f}/s")


def _checks(found: Everything) -> list[Check]:
    return [check for check in Check if check is not Check.PUBLISHED or found.topic_records is not None]


def _document(found: Everything, elapsed_s: float) -> dict[str, object]:
    return {
        "verified": True,
        "ledger_id": found.record.identity.ledger_id,
        "partitions": found.record.identity.partitions,
        "events": found.record.events,
        "accounts": found.record.accounts,
        "topic_records": found.topic_records,
        "elapsed_s": round(elapsed_s, 3),
        "checked": {check.invariant: check.meaning for check in _checks(found)},
        "not_checkable": NOT_IN_STORED_DATA,
    }


def _print(console: Console, found: Everything, elapsed_s: float) -> None:
    for check in _checks(found):
        console.print(f"  {check.invariant:2}  {check.meaning}")
    for invariant, why in NOT_IN_STORED_DATA.items():
        console.print(f"  {invariant:2}  not checked: {why}")
    if found.topic_records is None:
        console.print("  10  not checked: Kafka was not asked")
    record = found.record
    console.print(
        f"verified: {record.events:,} events of {record.accounts:,} accounts on {record.identity.partitions} "
        f"partitions in {elapsed_s:.1f} s"
    )
