"""`ledger up` and `ledger down`: everything on this machine."""

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from producers import LedgerError
from service.cli.output import CliError, ExitCode, Output, table
from service.cli.session import JsonOption, Session, run
from service.stack import stop_running
from service.up.demo import DemoOutcome
from service.up.running import LocalLedger, UpError
from service.up.watcher import ShownBalance


def up(
    demo: Annotated[
        bool, typer.Option("--demo/--no-demo", help="Publish the example app's commands and show the balances.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Start Kafka, Postgres and the ledger, publish the example app's commands, serve until Ctrl-C, stop everything.

    Where Kafka and Postgres come from is LEDGER_STACK=auto|external|docker|local; all state lies in LEDGER_HOME
    (.ledger). The last line of the start is `ready http://HOST:PORT`. With --json each step is one line of JSON.
    """
    run(as_json, lambda session: _up(session, demo))


def down(as_json: JsonOption = False) -> None:
    """Stop the ledger that runs from LEDGER_HOME, from another shell. Its data stays."""
    run(as_json, _down)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("up")(up)
    app.command("down")(down)


async def _up(session: Session, demo: bool) -> ExitCode:
    watcher = _JsonWatcher(session.output) if session.output.as_json else _TextWatcher(session.output.console)
    try:
        await LocalLedger(session.settings, session.registry, watcher).run(demo=demo)
    except UpError as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error)) from error
    except LedgerError as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error), "see the logs in LEDGER_HOME/log") from error
    watcher.step("stopped")
    return ExitCode.OK


async def _down(session: Session) -> ExitCode:
    home = session.settings.home
    found = await stop_running(home, session.output.note)
    session.output.result({"stopped": found}, "stopped" if found else f"nothing runs from {home.resolve()}")
    return ExitCode.OK


class _TextWatcher:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def step(self, text: str) -> None:
        elapsed = f"{time.monotonic() - self._began:5.1f} s"
        self._console.print(Text.assemble((elapsed, "dim"), " ", (text, "bold")))

    def note(self, text: str) -> None:
        self._console.print(Text(f"        {text}"))

    def outcomes(self, outcomes: Sequence[DemoOutcome]) -> None:
        rows = [
            (
                outcome.command.meaning,
                outcome.event.operation,
                f"{outcome.event.amount:+d}" if outcome.event.accepted else "",
                _became(outcome),
                str(outcome.event.position),
            )
            for outcome in outcomes
        ]
        self._console.print(table(("what", "operation", "amount", "what became of it", "position"), rows))
        if all(outcome.replayed for outcome in outcomes):
            self.note("all of them were decided at an earlier start: these are the first answers, nothing is new")

    def balances(self, balances: Sequence[ShownBalance]) -> None:
        self._console.print(table(("owner", "balance"), [(shown.owner_id, shown.balance) for shown in balances]))

    def ready(self, url: str) -> None:
        self._console.print(Text.assemble((f"{time.monotonic() - self._began:5.1f} s", "dim"), " Ctrl-C stops it"))
        # Alone on its line and plain: programs wait for it.
        print(f"ready {url}", flush=True)  # noqa: T201 - this is the command's output


class _JsonWatcher:
    def __init__(self, output: Output) -> None:
        self._output = output

    def step(self, text: str) -> None:
        self._say(step=text)

    def note(self, text: str) -> None:
        self._say(note=text)

    def outcomes(self, outcomes: Sequence[DemoOutcome]) -> None:
        for outcome in outcomes:
            event = outcome.event
            self._say(
                command={
                    "owner_id": event.owner_id,
                    "operation": event.operation,
                    "amount": event.amount,
                    "balance_after": event.balance_after,
                    "reason": event.reason,
                    "position": str(event.position),
                    "replayed": outcome.replayed,
                }
            )

    def balances(self, balances: Sequence[ShownBalance]) -> None:
        for shown in balances:
            self._say(balance={"owner_id": shown.owner_id, "balance": shown.balance})

    def ready(self, url: str) -> None:
        self._say(ready=url)

    def _say(self, **fields: Any) -> None:
        self._output.json_line(fields)


def _became(outcome: DemoOutcome) -> str:
    event = outcome.event
    if event.accepted:
        return f"posted, balance {event.balance_after}"
    return f"refused: {event.reason} ({event.detail})"
