"""`ledger recover partition|record|offsets|topic|list`: what an operator does when something stands still."""

import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import asyncpg
import typer
from rich.console import Console

from ledger.event_store.interventions import (
    LIST_ROWS_MAX,
    Deed,
    Intervention,
    InterventionRefusedError,
    list_interventions,
)
from service.cli.operator_name import login
from service.cli.output import CliError, ExitCode, printable, table
from service.cli.republishing import recover
from service.cli.session import OWNER, JsonOption, Session, run
from service.recovery import Plan, RecoveryError, plan_offsets, plan_record, plan_resume, plan_topic

app = recover
"""With `restored`, which `service.cli.republishing` adds."""

AppArgument = Annotated[str, typer.Argument(metavar="APP", help="The app whose topic it is.", show_default=False)]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.", show_default=False)]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it, for the record. Not given: your login.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]

MakePlan = Callable[[asyncpg.Connection, Session], Awaitable[Plan]]


@app.command("partition")
def partition_command(
    partitions: Annotated[list[int], typer.Argument(metavar="PARTITION...", help="Which.", show_default=False)],
    reason: ReasonOption,
    by: ByOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try halted partitions again, after the cause was removed; running consumers notice within seconds."""
    run(as_json, lambda session: _do(session, lambda c, _: plan_resume(c, partitions), reason, by, yes))


@app.command("record")
def record_command(
    record: Annotated[str, typer.Argument(help="APP:PARTITION:OFFSET, as the alarm says it.", show_default=False)],
    reason: ReasonOption,
    by: ByOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the one record at which a partition stands into quarantine, and go on behind it."""
    run(as_json, lambda session: _do(session, lambda c, s: plan_record(c, s.wiring, record), reason, by, yes))


@app.command("offsets")
def offsets_command(
    of_app: AppArgument, reason: ReasonOption, by: ByOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Go on where an app's topic begins, without the commands that retention has removed."""
    run(as_json, lambda session: _do(session, lambda c, s: plan_offsets(c, s.wiring, of_app), reason, by, yes))


@app.command("topic")
def topic_command(
    of_app: AppArgument, reason: ReasonOption, by: ByOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Begin with an app's topic that was made anew, where its old log is gone for good."""
    run(as_json, lambda session: _do(session, lambda c, s: plan_topic(c, s.wiring, of_app), reason, by, yes))


@app.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, max=LIST_ROWS_MAX, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """What operators have done, newest first."""
    run(as_json, lambda session: _list(session, limit))


async def _do(session: Session, make: MakePlan, reason: str, by: str | None, yes: bool) -> ExitCode:
    if not reason.strip():
        raise CliError(ExitCode.USAGE, "--reason is empty: say why, for the record")
    try:
        async with session.connection() as connection:
            plan = await make(connection, session)
        for step in plan.steps:
            session.output.note(step)
        if not yes and not (sys.stdin.isatty() and typer.confirm("Do it?", err=True)):
            raise CliError(ExitCode.USAGE, "nothing was done", "say --yes")
        async with session.connection(OWNER) as connection:
            done = await plan.apply(connection, Deed(by or login(), reason))
    except (RecoveryError, InterventionRefusedError) as error:
        raise CliError(ExitCode.NO, str(error), "nothing was changed; see `ledger status`") from error
    said = f"done, as intervention {done.number}; `ledger status` shows how it goes on"
    session.output.result(_document(done), printable(said))
    return ExitCode.OK


async def _list(session: Session, limit: int) -> ExitCode:
    async with session.connection() as connection:
        found = await list_interventions(connection, limit)
    rows = [(one.number, one.made_at, one.operator, one.kind, one.subject, one.reason) for one in found]

    def as_text(console: Console) -> None:
        if rows:
            console.print(table(("number", "when (UTC)", "by", "what", "to", "why"), rows))
        else:
            console.print("nobody has intervened")

    session.output.result([_document(one) for one in found], as_text)
    return ExitCode.OK


def _document(one: Intervention) -> dict[str, object]:
    return {
        "number": one.number,
        "made_at": one.made_at,
        "operator": one.operator,
        "kind": one.kind,
        "subject": one.subject,
        "reason": one.reason,
        "before": one.before,
        "after": one.after,
    }
