"""`ledger roles create|check`."""

import typer
from rich.console import Console

from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run
from service.logins import LoginError, LoginFound, check_logins, create_logins

app = typer.Typer(no_args_is_help=True, help="The logins with which the ledger's processes connect to Postgres.")


@app.command("create")
def create(as_json: JsonOption = False) -> None:
    """Make the logins that LEDGER_WRITER_DATABASE_URL, LEDGER_PROJECTOR_DATABASE_URL, LEDGER_READER_DATABASE_URL and
    LEDGER_APP_DATABASE_URL name, with the passwords in them; those that exist get these passwords.

    Acts as the owner (LEDGER_DATABASE_URL), after `ledger migrate`. Running it again changes nothing but passwords.
    """
    run(as_json, _create)


@app.command("check")
def check(as_json: JsonOption = False) -> None:
    """Connect as each kind of process does and tell what it may do. Exit code 1 when one may do more than it needs."""
    run(as_json, _check)


async def _create(session: Session) -> ExitCode:
    try:
        names = await create_logins(session.addresses)
    except LoginError as error:
        raise CliError(ExitCode.NO, str(error), "see docs/operating.md, Database roles and TLS") from error
    if not names:
        raise CliError(
            ExitCode.USAGE,
            "no login is named",
            "set LEDGER_WRITER_DATABASE_URL, LEDGER_PROJECTOR_DATABASE_URL, LEDGER_READER_DATABASE_URL and "
            "LEDGER_APP_DATABASE_URL, each with the user and the password that it shall have",
        )
    session.output.result({"logins": names}, f"these logins are as they should be: {', '.join(names)}")
    return ExitCode.OK


async def _check(session: Session) -> ExitCode:
    found = await check_logins(session.addresses)
    session.output.result(
        [{"process": one.kind, "login": one.login, "problems": list(one.problems)} for one in found],
        lambda console: _print(console, found),
    )
    return ExitCode.NO if any(one.problems for one in found) else ExitCode.OK


def _print(console: Console, found: list[LoginFound]) -> None:
    rows = [(one.kind, one.login, "; ".join(one.problems) or "may do what it needs, and no more") for one in found]
    console.print(table(("process", "login", ""), rows))
