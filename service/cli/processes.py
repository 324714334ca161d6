"""`ledger run consumer|projector|http`: one process in the foreground."""

from collections.abc import Callable
from typing import Annotated

import typer

from service.cli.output import CliError, ExitCode, Output
from service.cli.session import Session
from service.logins import LOGINS_OF
from service.processes.lifecycle import Serve, run_process
from service.stack import StackError
from service.wiring import Wiring

app = typer.Typer(no_args_is_help=True, help="Run one of the ledger's processes in the foreground, until Ctrl-C.")

WithParent = Annotated[
    bool,
    typer.Option("--with-parent", hidden=True, help="Begin at a line on standard input, stop when that ends."),
]


@app.command("consumer")
def consumer(with_parent: WithParent = False) -> None:
    """Decide commands and record them. Run as many as you like: they share the partitions."""
    from service.processes.consumer import serve_consumer  # noqa: PLC0415 - each process loads its own part only

    _run("consumer", lambda session: lambda stop: serve_consumer(session.wiring, stop), with_parent)


@app.command("projector")
def projector(with_parent: WithParent = False) -> None:
    """Feed the read models. Run as many as you like: they share the partitions."""
    from service.processes.projector import serve_projector  # noqa: PLC0415 - each process loads its own part only

    _run("projector", lambda session: lambda stop: serve_projector(session.wiring, stop), with_parent)


@app.command("http")
def http(
    host: Annotated[str | None, typer.Option(help="Address to listen on; LEDGER_HTTP_HOST if not given.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; LEDGER_HTTP_PORT if not given.")] = None,
    with_parent: WithParent = False,
) -> None:
    """Serve HTTP: commands, queries, health, and the example app's own routes."""
    from service.processes.http import load_http_app, serve_http  # noqa: PLC0415 - each process loads its own part only

    def work(session: Session) -> Serve:
        listen = (host or session.settings.http_host, session.settings.http_port if port is None else port)
        return lambda stop: serve_http(session.wiring, *listen, stop)

    _run("http", work, with_parent, load=load_http_app)


def _run(
    name: str,
    work: Callable[[Session], Serve],
    with_parent: bool,
    load: Callable[[Wiring], None] = lambda wiring: None,
) -> None:
    output = Output(as_json=False)
    session = Session(output)
    try:
        serve = work(session)
        wiring = session.wiring  # wrong settings and declarations show before anything starts
        for login in LOGINS_OF[name]:
            wiring.addresses.database(login)
        code = run_process(
            name,
            serve,
            log_level=session.settings.log_level,
            load=lambda: load(wiring),
            with_parent=with_parent,
        )
    except StackError as error:
        code = int(ExitCode.USAGE)
        output.error(CliError(ExitCode.USAGE, str(error)))
    except CliError as error:
        output.error(error)
        code = int(error.code)
    raise typer.Exit(code)
