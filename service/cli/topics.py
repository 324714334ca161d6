"""`ledger topics sync|check`."""

import typer
from rich.console import Console

from ledger.broker.protocol import TopicCreationError
from ledger.broker.topics_sync import SyncReport, check_topics, sync_topics
from ledger.event_store.identity import read_identity
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run

app = typer.Typer(no_args_is_help=True, help="The topics of the ledger on Kafka.")


@app.command("sync")
def sync(as_json: JsonOption = False) -> None:
    """Create the topics that are missing, and report on all. What exists is never changed.

    Exit code 1 when a topic has another number of partitions than the ledger: it is not consumed.
    """
    run(as_json, lambda session: _report_topics(session, create=True))


@app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Report on the topics without creating any. Exit code 1 when one is missing or of the wrong size."""
    run(as_json, lambda session: _report_topics(session, create=False))


async def _report_topics(session: Session, *, create: bool) -> ExitCode:
    async with session.connection() as connection:
        partitions = (await read_identity(connection)).partitions
    specs = session.wiring.wanted_topics(partitions)
    async with session.wiring.admin() as admin:
        try:
            report = await (sync_topics if create else check_topics)(admin, specs, session.topics)
        except TopicCreationError as error:
            raise CliError(
                ExitCode.NO, f"Kafka refuses: {error}", "see LEDGER_REPLICATION_FACTOR and the number of brokers"
            ) from error
    session.output.result(
        {
            "created": report.created,
            "right": report.right,
            "missing": report.missing,
            "wrong_size": [
                {"topic": wrong.name, "partitions": wrong.found, "wanted": wrong.wanted} for wrong in report.wrong_size
            ],
            "unregistered": report.unregistered,
        },
        lambda console: _print(console, report),
    )
    return ExitCode.OK if report.sound else ExitCode.NO


def _print(console: Console, report: SyncReport) -> None:
    rows: list[tuple[str, str]] = []
    rows += [(name, "created") for name in report.created]
    rows += [(name, "as it should be") for name in report.right]
    rows += [(name, "missing: run `ledger topics sync`") for name in report.missing]
    rows += [
        (wrong.name, f"{wrong.found} partitions instead of {wrong.wanted}: not consumed; delete it and sync again")
        for wrong in report.wrong_size
    ]
    rows += [(name, "no such app is registered: not consumed (see `ledger apps`)") for name in report.unregistered]
    console.print(table(("topic", "state"), sorted(rows)))
