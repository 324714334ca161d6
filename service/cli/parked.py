"""`ledger parked list|retry|discard`: owners whose events an app's subscriber has parked.

The subscriber kit brings FastStream, whose import takes longer than most commands: it is imported where it is used.
"""

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run

if TYPE_CHECKING:
    from consumers.subscriber.parked import ParkedOwnerReport

app = typer.Typer(no_args_is_help=True, help="Events that an app's subscriber could not handle and has parked.")

OfApp = Annotated[str, typer.Option("--app", help="Whose subscriber.")]
InGroup = Annotated[str | None, typer.Option("--group", help="In this consumer group only.")]
OwnerArgument = Annotated[str, typer.Argument(help="The parked owner.", show_default=False)]


@app.command("list")
def list_command(of_app: OfApp, group: InGroup = None, as_json: JsonOption = False) -> None:
    """The parked owners of an app, the oldest first, and why their first event could not be handled."""
    run(as_json, lambda session: _list(session, of_app, group))


@app.command("retry")
def retry(owner_id: OwnerArgument, of_app: OfApp, group: InGroup = None, as_json: JsonOption = False) -> None:
    """Have an owner's parked events handled again, in order; later ones follow behind them."""
    run(as_json, lambda session: _retry(session, of_app, group, owner_id))


@app.command("discard")
def discard(
    owner_id: OwnerArgument,
    of_app: OfApp,
    group: InGroup = None,
    every_event: Annotated[
        bool, typer.Option("--every-event", help="All that are parked now, not only the first.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Drop the event that could not be handled, and have the owner's others handled in order."""
    run(as_json, lambda session: _discard(session, of_app, group, owner_id, every_event))


async def _list(session: Session, of_app: str, group: str | None) -> ExitCode:
    from consumers.subscriber.parked import list_parked  # noqa: PLC0415 - see above

    return _show(
        session,
        await _done(list_parked(session.wiring.kafka, of_app, session.topics, group=group)),
        "nothing is parked",
    )


async def _retry(session: Session, of_app: str, group: str | None, owner_id: str) -> ExitCode:
    from consumers.subscriber.parked import retry_parked  # noqa: PLC0415 - see above

    kafka = session.wiring.kafka
    reports = await _done(retry_parked(kafka, of_app, session.topics, owner_id, group=group))
    session.output.note("asked for; the subscriber acts on it when it runs, see `ledger parked list`")
    return _show(session, reports, "")


async def _discard(session: Session, of_app: str, group: str | None, owner_id: str, every_event: bool) -> ExitCode:
    from consumers.subscriber.parked import discard_parked  # noqa: PLC0415 - see above

    kafka = session.wiring.kafka
    reports = await _done(discard_parked(kafka, of_app, session.topics, owner_id, group=group, every_event=every_event))
    session.output.note("asked for; the subscriber acts on it when it runs, see `ledger parked list`")
    return _show(session, reports, "")


async def _done(work: "Awaitable[list[ParkedOwnerReport]]") -> "list[ParkedOwnerReport]":
    from consumers.subscriber.errors import NotParkedError, SubscriberError  # noqa: PLC0415 - see above

    try:
        return await work
    except NotParkedError as error:
        raise CliError(ExitCode.NO, str(error)) from error
    except SubscriberError as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error)) from error


def _show(session: Session, reports: "Sequence[ParkedOwnerReport]", if_empty: str) -> ExitCode:
    rows = [
        (
            one.group,
            one.owner_id,
            one.partition,
            str(one.events[0].position),
            len(one.events),
            one.attempts,
            one.parked_at,
            one.error,
            one.releasing,
        )
        for one in reports
    ]
    columns = ("group", "owner", "partition", "first event", "events", "attempts", "parked (UTC)", "error", "releasing")

    def as_text(console: Console) -> None:
        console.print(table(columns, rows) if rows else if_empty)

    session.output.result(
        [
            {
                "group": one.group,
                "owner_id": one.owner_id,
                "partition": one.partition,
                "events": [str(event.position) for event in one.events],
                "error": one.error,
                "attempts": one.attempts,
                "parked_at": one.parked_at,
                "releasing": one.releasing,
            }
            for one in reports
        ],
        as_text,
    )
    return ExitCode.OK
