"""`ledger migrate`: a database becomes, or stays, the record of a ledger."""

import typer

from service.cli.output import ExitCode
from service.cli.session import JsonOption, Session, run
from service.database import prepare_database


def migrate(as_json: JsonOption = False) -> None:
    """Bring the database to the schema of this version and set up a new ledger in it; does nothing twice.

    The number of partitions (LEDGER_PARTITIONS, 12 by default) is fixed by the first run, for ever.
    """
    run(as_json, _migrate)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("migrate")(migrate)


async def _migrate(session: Session) -> ExitCode:
    identity = await prepare_database(session.addresses.database("owner"), session.settings.partitions)
    session.output.result(
        {"ledger_id": identity.ledger_id, "partitions": identity.partitions},
        f"the database is up to date: ledger {identity.ledger_id}, {identity.partitions} partitions",
    )
    return ExitCode.OK
