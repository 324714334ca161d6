"""`ledger publish`: one command, and what became of it."""

import json
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from ledger.domain.event import RecordedEvent
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.messages.command_ids import new_command_id
from producers import (
    CommandRejected,
    InvalidCommand,
    KafkaUnavailable,
    NotPublished,
    OutcomeUnknown,
    Published,
    TopicUnusable,
)
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run


def publish(
    operation: Annotated[str, typer.Argument(help="For example CREDIT_ADD; see `ledger apps`.", show_default=False)],
    owner_id: Annotated[str, typer.Argument(help="Whose credits.", show_default=False)],
    amount: Annotated[
        int | None,
        typer.Option("--amount", help="Signed: a spend is negative. Not given: the operation's default."),
    ] = None,
    nonce: Annotated[
        str | None, typer.Option(help="The app's own key of this business action. Not given: a new one.")
    ] = None,
    app: Annotated[str | None, typer.Option(help="As which app. Not given: LEDGER_SERVICE_APP.")] = None,
    credit_type: Annotated[str, typer.Option(help="Which kind of credits.")] = DEFAULT_CREDIT_TYPE,
    metadata: Annotated[str | None, typer.Option(help="A JSON object that is kept with the entry.")] = None,
    command_id: Annotated[
        str | None, typer.Option(help="The id of an earlier try, to repeat it safely. Not given: a new request.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for what becomes of it.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Publish one command through Kafka, as an app, and wait for its outcome.

    Exit code 1 when the ledger refuses it, 3 when the outcome is not known in time (repeat it with its --command-id).
    """
    fields = {
        "operation": operation,
        "owner_id": owner_id,
        "amount": amount,
        "credit_type": credit_type,
    }
    run(as_json, lambda session: _publish(session, app, fields, nonce, metadata, command_id, wait))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish")(publish)


async def _publish(
    session: Session,
    app: str | None,
    fields: dict[str, Any],
    nonce: str | None,
    metadata: str | None,
    command_id: str | None,
    wait: bool,
) -> ExitCode:
    request_id = _command_id(command_id)
    fields |= {"nonce": nonce or str(request_id), "command_id": request_id, "metadata": _metadata(metadata)}
    try:
        async with session.wiring.client(app or session.settings.service_app) as client:
            if not wait:
                _show_published(session, await client.publish(**fields))
                return ExitCode.OK
            outcome = await client.submit(**fields, wait_s=session.settings.outcome_wait_s)
    except CommandRejected as rejected:
        _show_event(session, rejected.event, rejected.replayed)
        return ExitCode.NO
    except InvalidCommand as error:
        raise CliError(ExitCode.USAGE, f"the command cannot be sent: {error}") from error
    except OutcomeUnknown as error:
        to_do = f"ask again with --command-id {request_id} --nonce {fields['nonce']}"
        raise CliError(ExitCode.UNAVAILABLE, str(error), to_do) from error
    except (NotPublished, KafkaUnavailable, TopicUnusable) as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error), "see `ledger status`") from error
    _show_event(session, outcome.event, outcome.replayed)
    return ExitCode.OK


def _command_id(text: str | None) -> UUID:
    if text is None:
        return new_command_id()
    try:
        return UUID(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--command-id {text!r} is no UUID") from error


def _metadata(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, f"--metadata is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise CliError(ExitCode.USAGE, "--metadata is not a JSON object", """write it like '{"order": 1001}'""")
    return value


def _show_published(session: Session, published: Published) -> None:
    document = {
        "command_id": published.command_id,
        "topic": published.topic,
        "partition": published.partition,
        "offset": published.offset,
    }
    place = f"{published.topic}:{published.partition}:{published.offset}"
    session.output.result(document, f"published at {place}; command id {published.command_id}")


def event_document(event: RecordedEvent) -> dict[str, object]:
    """An event as `--json` shows it."""
    return {
        "type": event.type,
        "position": str(event.position),
        "entry_id": event.position.entry_id if event.accepted else None,
        "app": event.app,
        "command_id": event.command_id,
        "operation": event.operation,
        "owner_id": event.owner_id,
        "credit_type": event.credit_type,
        "amount": event.amount,
        "balance_after": event.balance_after,
        "nonce": event.nonce,
        "issued_at": event.issued_at,
        "occurred_at": event.occurred_at,
        "reason": event.reason,
        "detail": event.detail,
    }


def _show_event(session: Session, event: RecordedEvent, replayed: bool) -> None:
    document = event_document(event) | {"replayed": replayed}
    session.output.result(document, lambda console: _print_event(console, event, replayed))


def _print_event(console: Console, event: RecordedEvent, replayed: bool) -> None:
    became = "posted" if event.accepted else f"REFUSED: {event.reason} ({event.detail})"
    rows: list[tuple[str, object]] = [
        ("what became of it", became + (", decided before" if replayed else "")),
        ("position", str(event.position)),
        ("amount", f"{event.amount:+,}"),
        ("balance", f"{event.balance_after:,} {event.credit_type}"),
        ("command id", str(event.command_id)),
        ("nonce", event.nonce),
    ]
    console.print(table((event.operation, event.owner_id), rows))
