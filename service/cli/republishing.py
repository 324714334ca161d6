"""`ledger republish` and `ledger recover restored`."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TextIO

import asyncpg
import typer
from rich.console import Console

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.domain.event import RecordedEvent
from ledger.event_store.interventions import Deed, InterventionRefusedError
from ledger.messages.event_codec import encode_event
from projections.versions import RebuildError
from service.cli.operator_name import login
from service.cli.output import CliError, ExitCode, table
from service.cli.session import OWNER, JsonOption, Session, run
from service.republishing.lost_events import LostTail
from service.republishing.republish import (
    RepublishRefusedError,
    lost_tails,
    publish_everything_again,
    rebuild_read_models,
    require_nobody_at_work,
)

ReasonOption = Annotated[str, typer.Option("--reason", help="Why, for the record.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it, for the record. Not given: your login.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]


recover = typer.Typer(no_args_is_help=True, help="What makes the ledger go on after something went wrong.")


@recover.callback()
def _group() -> None:
    """Keeps the name of a single command."""


def republish_command(
    reason: ReasonOption, by: ByOption = None, yes: YesOption = False, as_json: JsonOption = False
) -> None:
    """Have every event published again: ledger.events is lost or damaged, the record is whole.

    The topics ledger.events and ledger.replays are made where they are missing, and emptied; the next ledger consumers
    publish the whole record. Refused while consumers run, and where the record lacks events that were published.
    """
    run(as_json, lambda session: _republish(session, reason, by, yes))


@recover.command("restored")
def restored_command(
    reason: ReasonOption,
    by: ByOption = None,
    yes: YesOption = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="File for the events that are given up. Not given: one is named here.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with a restored record, giving up the events that it lacks.

    Shows which published events the record has lost, keeps them in a file, asks; then has the record published again
    from its first event and makes the read models anew. Refused while consumers run. Exit code 1 when nothing is lost.
    """
    run(as_json, lambda session: _restored(session, reason, by, yes, save))


def register(app: typer.Typer) -> None:
    """Add `republish`."""
    app.command("republish")(republish_command)


async def _republish(session: Session, reason: str, by: str | None, yes: bool) -> ExitCode:
    async with session.connection(OWNER) as connection, session.wiring.admin() as admin:
        await _require_nobody(session, admin)
        tails = await lost_tails(session.wiring, connection, lambda event: None)
        if tails:
            raise CliError(
                ExitCode.NO,
                f"{session.topics.events} holds events that the record lacks: {'; '.join(map(str, tails))}",
                "restore a newer copy of the database; or, when the loss is decided, run `ledger recover restored`",
            )
        _confirm(session, yes, "publish again", f"{session.topics.events} will be emptied and written again")
        done = await _publish_again(session, admin, connection, Deed(by or login(), reason), [])
    session.output.result(
        {"intervention": done, "given_up": []},
        f"noted as intervention {done}; start the ledger consumers: they publish every event again",
    )
    return ExitCode.OK


async def _restored(session: Session, reason: str, by: str | None, yes: bool, save: Path | None) -> ExitCode:
    path = save or Path(f"lost-events-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.jsonl")
    async with session.connection(OWNER) as connection, session.wiring.admin() as admin:
        await _require_nobody(session, admin)
        tails = await _kept(session, connection, path)
        if not tails:
            session.output.result(
                {"given_up": []},
                f"the record holds everything that {session.topics.events} does: there is nothing to give up, start "
                "the ledger",
            )
            return ExitCode.NO
        count = sum(tail.events for tail in tails)
        if not session.output.as_json:
            _print(session.output.errors, tails, path)
        _confirm(
            session,
            yes,
            f"give up {count}",
            f"{count} events that apps have seen will be lost for good",
        )
        done = await _publish_again(session, admin, connection, Deed(by or login(), reason), tails)
    try:
        await rebuild_read_models(session.addresses.database_url, lambda progress: None)
    except RebuildError as error:
        raise CliError(
            ExitCode.NO, f"the read models were not made anew: {error}", "run `ledger rebuild --after-restore`"
        ) from error
    session.output.result(
        {
            "intervention": done,
            "given_up": [
                {
                    "partition": one.partition,
                    "head": one.head,
                    "first": one.first,
                    "last": one.last,
                    "events": one.events,
                }
                for one in tails
            ],
            "saved_to": str(path),
        },
        f"noted as intervention {done}; the lost events are in {path}. Start the ledger: it publishes the record "
        "again, and decides anew the commands whose events were lost, as far as their topics hold them. Subscribers "
        "that saw lost events halt: see docs/operating.md, 'A restored database'",
    )
    return ExitCode.OK


async def _kept(session: Session, connection: asyncpg.Connection, path: Path) -> Sequence[LostTail]:
    """What is lost; each such event is in the file, which is not made where nothing is."""
    file: TextIO | None = None

    def keep(event: RecordedEvent) -> None:
        nonlocal file
        if file is None:
            try:
                file = path.open("x", encoding="utf-8")
            except OSError as error:
                raise CliError(
                    ExitCode.USAGE, f"{path} cannot be written: {error.strerror}", "name another file with --save"
                ) from error
        file.write(encode_event(event).decode() + "\n")

    try:
        return await lost_tails(session.wiring, connection, keep)
    finally:
        if file is not None:
            file.close()


async def _require_nobody(session: Session, admin: KafkaTopicAdmin) -> None:
    try:
        await require_nobody_at_work(session.wiring, admin)
    except RepublishRefusedError as error:
        raise CliError(ExitCode.NO, str(error)) from error


async def _publish_again(
    session: Session, admin: KafkaTopicAdmin, connection: asyncpg.Connection, deed: Deed, tails: Sequence[LostTail]
) -> int:
    try:
        return (await publish_everything_again(session.wiring, admin, connection, deed, tails)).number
    except InterventionRefusedError as error:
        raise CliError(ExitCode.NO, str(error)) from error


def _confirm(session: Session, yes: bool, words: str, what: str) -> None:
    if yes:
        return
    if session.output.as_json or not sys.stdin.isatty():
        raise CliError(ExitCode.NO, f"{what}; nothing was done", "give --yes to do it")
    typed = typer.prompt(f"{what}. Type `{words}` to go on", default="", show_default=False, err=True)
    if typed.strip() != words:
        raise CliError(ExitCode.NO, "nothing was done")


def _print(console: Console, tails: Sequence[LostTail], path: Path) -> None:
    rows = [
        (tail.partition, tail.head, f"{tail.partition}:{tail.first}", f"{tail.partition}:{tail.last}", tail.events)
        for tail in tails
    ]
    console.print(table(("partition", "the record ends at", "lost from", "to", "events"), rows))
    console.print(f"the lost events are kept in {path}")
