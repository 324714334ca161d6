"""All commands of `ledger`.

Exit codes: 0 it worked; 1 it worked and the answer is no (a rejection, a violation, nothing there); 2 the command line
or a setting is wrong; 3 Kafka or Postgres is away, or an outcome did not come in time; 130 interrupted.
"""

import io
import sys

import typer

from service.cli import (
    apps,
    archiving,
    importing,
    keys,
    local,
    moving,
    parked,
    processes,
    publishing,
    quarantine,
    queries,
    rebuilding,
    recover,
    republishing,
    roles,
    setup,
    status,
    topics,
    verify,
    watch,
)

app = typer.Typer(
    name="ledger",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help=(
        "A shared credit ledger: apps publish commands to Kafka, the ledger records them in Postgres, and everybody "
        "reads balances.\n\nExit codes: 0 it worked; 1 the answer is no; 2 the command line or a setting is wrong; "
        "3 Kafka, Postgres or an outcome is not to be had now; 130 interrupted."
    ),
)
for module in (
    local,
    status,
    setup,
    publishing,
    queries,
    watch,
    importing,
    verify,
    rebuilding,
    republishing,
    archiving,
    moving,
    apps,
):
    module.register(app)
app.add_typer(topics.app, name="topics")
app.add_typer(roles.app, name="roles")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(recover.app, name="recover")
app.add_typer(parked.app, name="parked")
app.add_typer(keys.app, name="keys")
app.add_typer(processes.app, name="run")


def main() -> None:
    """The entry point `ledger`."""
    for stream in (sys.stdout, sys.stderr):
        # A name of a file can hold what no encoding can show; in JSON the escape that this makes is the right one.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="ledger")
