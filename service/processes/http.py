"""The process that serves HTTP: the example app's FastAPI, by import string."""

import asyncio
import contextlib
import os
from collections.abc import Generator
from importlib import import_module
from typing import Final

import uvicorn
from fastapi import FastAPI

from service.database import warn_of_open_doors
from service.logins import LOGINS_OF
from service.open_doors import why_not_open
from service.processes.http_connections import LimitedConnection
from service.processes.lifecycle import StartRefusedError, freeze_start_up
from service.wiring import Wiring

APP: Final = "apps.example_app.main:app"
GRACE_S: Final = 8
"""How long requests that are under way may take to finish once the service is to stop."""

KEEP_ALIVE_S: Final = 5
"""How long an idle connection stays open between two requests."""

HEAD_BYTES_MAX: Final = 32_768
"""A request's line and headers together; more is answered with 400."""


class HttpServer(uvicorn.Server):
    """uvicorn within a process of ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the lifecycle's: it tells every process to stop in the same way."""
        yield

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Begin to listen."""
        await super().startup(sockets)  # type: ignore[arg-type]
        freeze_start_up()


def http_config(app: str | FastAPI, host: str, port: int) -> uvicorn.Config:
    """How an app is served: with limits on connections and heads, and without a word of uvicorn about each request."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        h11_max_incomplete_event_size=HEAD_BYTES_MAX,
        http=LimitedConnection,
        ws="none",
        server_header=False,
        loop="none",
    )


def load_http_app(wiring: Wiring) -> None:
    """Import the app, which takes a second. It reads its settings itself, because it can be served without us."""
    os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"] = wiring.addresses.kafka_bootstrap_servers
    for login in LOGINS_OF["http"]:
        warn_of_open_doors(wiring.addresses, login)
        os.environ[f"LEDGER_{login.upper()}_DATABASE_URL"] = wiring.addresses.database(login)
    # The owner's is no business of a process that strangers talk to.
    os.environ.pop("LEDGER_DATABASE_URL", None)
    import_module(APP.partition(":")[0])


async def serve_http(wiring: Wiring, host: str, port: int, stop: asyncio.Event) -> None:
    """Serve the loaded app until told to stop; requests under way are finished first.

    Raises:
        StartRefusedError: whoever reaches this address could use the ledger.
        RuntimeError: the service could not start; the log says why.
    """
    refusal = await why_not_open(wiring.addresses.database("reader"), wiring.settings.http_keys, host, stop)
    if refusal is not None:
        raise StartRefusedError(refusal)
    server = HttpServer(http_config(APP, host, port))
    serving = asyncio.ensure_future(server.serve())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
    if not stop.is_set():
        raise RuntimeError(f"the HTTP service on {host}:{port} ended by itself")
