"""`ledger keys create|list|revoke`: who may use the HTTP service, as which app, for what."""

import getpass
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.console import Console

from ledger.api_keys.secret import is_key_id, new_key
from ledger.api_keys.store import (
    LABEL_CHARACTERS_MAX,
    ApiKey,
    Scope,
    TooManyKeysError,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from producers.doors.key_ring import REVOKED_WITHIN_S, VALID_WITHOUT_POSTGRES_S
from service.cli.output import CliError, ExitCode, printable, table
from service.cli.session import OWNER, JsonOption, Session, run

app = typer.Typer(no_args_is_help=True, help="API keys of the HTTP service.")


@app.command("create")
def create(
    of_app: Annotated[str, typer.Option("--app", help="The app as which its holder publishes.", show_default=False)],
    scopes: Annotated[
        list[Scope], typer.Option("--scope", help="What it opens; give the option twice for both.", show_default=False)
    ],
    label: Annotated[str, typer.Option(help="Who has it, or what for.")] = "",
    expires_in_days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="It opens nothing after so many days.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, this once: only a digest of it is kept. From the first key on HTTP asks for keys."""
    run(as_json, lambda session: _create(session, of_app, scopes, label, expires_in_days))


@app.command("list")
def list_command(
    of_app: Annotated[str | None, typer.Option("--app", help="Of this app only.")] = None, as_json: JsonOption = False
) -> None:
    """All keys that were ever made, the newest first; never the keys themselves."""
    run(as_json, lambda session: _list(session, of_app))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Make a key useless for ever. HTTP goes on asking for keys, also when this was the last one."""
    run(as_json, lambda session: _revoke(session, key_id))


async def _create(
    session: Session, of_app: str, scopes: Sequence[Scope], label: str, expires_in_days: float | None
) -> ExitCode:
    if of_app not in session.registry:
        raise CliError(ExitCode.USAGE, f"no app {of_app!r} is registered", "see `ledger apps`")
    if len(label) > LABEL_CHARACTERS_MAX or "\0" in label:
        raise CliError(ExitCode.USAGE, f"a label has at most {LABEL_CHARACTERS_MAX} characters and no NUL")
    expires_at = None if expires_in_days is None else datetime.now(UTC) + timedelta(days=expires_in_days)
    key = new_key()
    try:
        async with session.connection(OWNER) as connection:
            made = await create_api_key(
                connection,
                key,
                app=of_app,
                scopes=set(scopes),
                label=label,
                created_by=_login(),
                expires_at=expires_at,
            )
    except TooManyKeysError as error:
        raise CliError(ExitCode.NO, str(error)) from error
    # The key alone on standard output, so that it can be piped to where it is kept.
    session.output.note(f"key {made.id} of {made.app}, for {', '.join(made.scopes)}; it is shown this once:")
    session.output.result({**_document(made), "key": key}, key)
    return ExitCode.OK


async def _list(session: Session, of_app: str | None) -> ExitCode:
    async with session.connection() as connection:
        keys = await list_api_keys(connection, app=of_app)
    columns = ("id", "app", "scopes", "label", "made (UTC)", "by", "expires (UTC)", "last used (UTC)", "state")
    rows = [
        (
            key.id,
            key.app,
            " ".join(key.scopes),
            key.label,
            key.created_at,
            key.created_by,
            key.expires_at,
            key.last_used_at,
            _state(key),
        )
        for key in keys
    ]

    def as_text(console: Console) -> None:
        console.print(table(columns, rows) if rows else "no API key has been made: HTTP asks for none, on loopback")

    session.output.result([_document(key) for key in keys], as_text)
    return ExitCode.OK


async def _revoke(session: Session, key_id: str) -> ExitCode:
    if not is_key_id(key_id):
        # Not repeated: somebody may have given the key itself.
        raise CliError(
            ExitCode.USAGE, "that is no id of a key", "the id is what stands between `lgk_` and the next `_`"
        )
    async with session.connection(OWNER) as connection:
        revoked = await revoke_api_key(connection, key_id, revoked_by=_login())
    if revoked is None:
        raise CliError(ExitCode.NO, f"there is no key {key_id}", "see `ledger keys list`")
    session.output.result(
        _document(revoked),
        f"{key_id} of {revoked.app} is revoked: services know it within {REVOKED_WITHIN_S} s "
        f"({VALID_WITHOUT_POSTGRES_S} s where Postgres does not answer them)",
    )
    return ExitCode.OK


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {key.revoked_at:%Y-%m-%d %H:%M:%S} by {printable(key.revoked_by or '?')}"
    return "usable" if key.usable else "expired"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "an unnamed user"


def _document(key: ApiKey) -> dict[str, object]:
    return {
        "id": key.id,
        "app": key.app,
        "scopes": [str(scope) for scope in key.scopes],
        "label": key.label,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "last_used_at": key.last_used_at,
        "revoked_at": key.revoked_at,
        "revoked_by": key.revoked_by,
        "usable": key.usable,
    }
