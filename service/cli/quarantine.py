"""`ledger quarantine list|show|retry|discard`."""

import base64
import getpass
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeVar

import asyncpg
import typer
from rich.console import Console

from ledger.event_store.quarantine import (
    LIST_ROWS_MAX,
    Quarantined,
    QuarantineId,
    list_quarantined,
    read_quarantined,
)
from service.cli.output import CliError, ExitCode, printable, table
from service.cli.session import OWNER, JsonOption, Session, run
from service.quarantine import QuarantineError, discard_quarantined, retry_quarantined

SHOWN_CHARACTERS_MAX: Final = 2_000
"""Of a value, on a terminal; all of it goes to --json and to --value-to."""

Result = TypeVar("Result")

app = typer.Typer(no_args_is_help=True, help="Messages that cannot be read as commands.")

IdArgument = Annotated[str, typer.Argument(help="APP:PARTITION:OFFSET, as `list` shows it.", show_default=False)]
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it, for the record. Not given: your login.")]


@app.command("list")
def list_command(
    of_app: Annotated[str | None, typer.Option("--app", help="Of this app only.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The retried and discarded ones too.")] = False,
    after: Annotated[str | None, typer.Option(help="Go on behind this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIST_ROWS_MAX, help="At most so many.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """The messages that wait for somebody to look at them."""
    run(as_json, lambda session: _list(session, of_app, everything, after, limit))


@app.command("show")
def show(
    wanted: IdArgument,
    value_to: Annotated[Path | None, typer.Option(help="Write the value, byte for byte, to this file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """One message: why it could not be read, its key and its value. Nothing in it can command the terminal."""
    run(as_json, lambda session: _show(session, wanted, value_to))


@app.command("retry")
def retry(
    wanted: IdArgument,
    value: Annotated[Path | None, typer.Option(help="Publish the content of this file instead.")] = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a message again on its app's command topic, with the right key and on the right partition."""
    run(as_json, lambda session: _retry(session, wanted, value, by))


@app.command("discard")
def discard(
    wanted: IdArgument,
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record that nothing will be done about a message. It is kept."""
    run(as_json, lambda session: _discard(session, wanted, reason, by))


async def _list(session: Session, of_app: str | None, everything: bool, after: str | None, limit: int) -> ExitCode:
    behind = None if after is None else _parsed(after)
    async with session.connection() as connection:
        found = await list_quarantined(
            connection, app=of_app, status=None if everything else "waiting", after=behind, limit=limit
        )
    rows = [(str(one.id), one.quarantined_at, one.reason, one.detail, one.status, one.resolution) for one in found]
    columns = ("id", "since (UTC)", "reason", "detail", "status", "what was done")

    def as_text(console: Console) -> None:
        if not rows:
            console.print("nothing is in quarantine" if everything else "nothing waits in quarantine")
            return
        console.print(table(columns, rows))
        if len(rows) == limit:
            console.print(f"more: --after {rows[-1][0]}")

    session.output.result([_document(one, whole=False) for one in found], as_text)
    return ExitCode.OK


async def _show(session: Session, wanted: str, value_to: Path | None) -> ExitCode:
    async with session.connection() as connection:
        found = await read_quarantined(connection, _parsed(wanted))
    if found is None:
        raise CliError(ExitCode.NO, f"there is no message {wanted} in quarantine", "see `ledger quarantine list --all`")
    if value_to is not None:
        if found.value is None:
            raise CliError(ExitCode.NO, f"{wanted} has no value, so there is nothing to write")
        _write(value_to, found.value)
    rows = [
        ("id", str(found.id)),
        ("reason", f"{found.reason}: {found.detail}"),
        ("since (UTC)", f"{found.quarantined_at:%Y-%m-%d %H:%M:%S}"),
        ("status", found.status if found.resolution is None else f"{found.status}: {found.resolution}"),
        ("key", _safe(found.key)),
        ("value", _safe(found.value)),
    ]
    session.output.result(_document(found, whole=True), lambda console: console.print(table(("", "message"), rows)))
    return ExitCode.OK


async def _retry(session: Session, wanted: str, value: Path | None, by: str | None) -> ExitCode:
    parsed = _parsed(wanted)
    content = None if value is None else _read(value)
    done = await _resolved(
        session,
        lambda connection: retry_quarantined(connection, session.wiring, parsed, by or _login(), content),
    )
    place = f"{done.topic}:{done.partition}:{done.offset}"
    session.output.result(
        {"id": str(parsed), "topic": done.topic, "partition": done.partition, "offset": done.offset},
        f"{parsed} was published again at {place}",
    )
    return ExitCode.OK


async def _discard(session: Session, wanted: str, reason: str, by: str | None) -> ExitCode:
    parsed = _parsed(wanted)
    await _resolved(session, lambda connection: discard_quarantined(connection, parsed, by or _login(), reason))
    session.output.result({"id": str(parsed), "discarded": True}, f"{parsed} is discarded, and kept as a record")
    return ExitCode.OK


async def _resolved(session: Session, work: Callable[[asyncpg.Connection], Awaitable[Result]]) -> Result:
    try:
        async with session.connection(OWNER) as connection:
            return await work(connection)
    except QuarantineError as error:
        raise CliError(ExitCode.NO, str(error)) from error


def _parsed(text: str) -> QuarantineId:
    try:
        return QuarantineId.parse(text)
    except ValueError as error:
        raise CliError(ExitCode.USAGE, str(error)) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CliError(ExitCode.USAGE, f"{path} cannot be read: {error.strerror}") from error


def _write(path: Path, value: bytes) -> None:
    try:
        path.write_bytes(value)
    except OSError as error:
        raise CliError(ExitCode.USAGE, f"{path} cannot be written: {error.strerror}") from error


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "an unnamed user"


def _safe(value: bytes | None) -> str:
    """Bytes as text in which nothing can move a cursor or change a colour."""
    if value is None:
        return "(null)"
    shown = printable(value[:SHOWN_CHARACTERS_MAX].decode("utf-8", "backslashreplace"))
    return shown if len(value) <= SHOWN_CHARACTERS_MAX else f"{shown}... ({len(value):,} bytes; --value-to FILE)"


def _document(one: Quarantined, *, whole: bool) -> dict[str, object]:
    document: dict[str, object] = {
        "id": str(one.id),
        "app": one.app,
        "partition": one.partition,
        "offset": one.command_offset,
        "timestamp_ms": one.timestamp_ms,
        "quarantined_at": one.quarantined_at,
        "reason": one.reason,
        "detail": one.detail,
        "status": one.status,
        "resolved_at": one.resolved_at,
        "resolution": one.resolution,
    }
    if whole:
        document |= {"key_base64": _base64(one.key), "value_base64": _base64(one.value), "value_text": _safe(one.value)}
    return document


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
