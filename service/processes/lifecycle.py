"""What every process has in common: its event loop, its logs, and an orderly end with a limit."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from service.logs import configure_logs

STOP_LIMIT_S: Final = 20.0
"""How long an orderly stop may take; after it the process ends at once. Nothing is lost then: what was not committed
is read again, what was not published is published again."""

GC_THRESHOLDS: Final = (20_000, 20, 20)
"""Objects that may be made (and not freed) before the young are looked through, and how many times those before the
older ones are. Python's own are 700, 10, 10: less than one batch of commands."""

log = structlog.get_logger(__name__)


class StartRefusedError(Exception):
    """A process must not start so; the text says why and what to do. It ends with `REFUSED_CODE`."""


class StoppedUnfinishedError(Exception):
    """A process was told to stop and has left something to whoever takes over; nothing is lost by that."""


FAILED_CODE: Final = 1
"""The work failed, without anybody asking for a stop; the log says why."""

REFUSED_CODE: Final = 2
"""As the command line says it: a setting is wrong, nothing was done."""

FORCED_CODE: Final = 4
"""A stop was asked for and not done in order: the limit passed, a second signal came, or a server was away."""

Serve = Callable[[asyncio.Event], Awaitable[None]]
"""Runs a process's work until the event is set, then ends it in order."""


def run_process(
    name: str, serve: Serve, *, log_level: str, load: Callable[[], None] | None = None, with_parent: bool = False
) -> int:
    """Run one process until SIGTERM, SIGINT, or its work ends; the exit code.

    Args:
        name: as it appears in logs.
        serve: the work.
        log_level: lowest level that is logged.
        load: loads the code, within the event loop, because what it makes may belong to that.
        with_parent: begin when a line arrives on standard input, and stop as well when standard input ends, which the
            kernel sees to when the process that started this one is gone, however it went.
    """
    configure_logs(name, log_level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(serve, load, with_parent))


def freeze_start_up() -> None:
    """Take everything that the start has made out of the garbage collector's sight, and let it look more rarely.

    What the start made lives until the end, and looking through it again and again costs more than the work (FACTS:
    decoding 3.5 or 8 us). What a batch makes is freed by counting references; collecting for its sake cost a ledger
    consumer 4 of 22 us per command in deciding alone (backlog_uniform).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


async def _run(serve: Serve, load: Callable[[], None] | None, with_parent: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _stop_on_signal, stop, number)
    if load is not None:
        load()
    if with_parent:
        await _follow_parent(stop)
        if stop.is_set():
            return 0
    work = asyncio.ensure_future(serve(stop))
    asked = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((work, asked), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            log.info("stopping", limit_s=STOP_LIMIT_S)
            await asyncio.wait((work,), timeout=STOP_LIMIT_S)
        if not work.done():
            log.error("the stop took too long, ending now", limit_s=STOP_LIMIT_S)
            _end_now()
        await work
    except StartRefusedError as refusal:
        log.error("not started", why=str(refusal))
        return REFUSED_CODE
    except StoppedUnfinishedError as left:
        log.warning("stopped, not in order", why=str(left))
        return FORCED_CODE
    except Exception:  # the last place where it can be written down; the caller sees the exit code
        log.exception("the process has failed")
        return FAILED_CODE
    finally:
        asked.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asked
    log.info("stopped")
    return 0


def _stop_on_signal(stop: asyncio.Event, number: signal.Signals) -> None:
    if stop.is_set():
        log.warning("told to stop a second time, ending now", signal=number.name)
        _end_now()
    log.info("told to stop", signal=number.name)
    stop.set()


def _end_now() -> None:
    sys.stderr.flush()
    os._exit(FORCED_CODE)


async def _follow_parent(stop: asyncio.Event) -> None:
    """Return when the parent says go, or a stop is asked for; from then on the parent's end is a stop."""
    go = asyncio.Event()

    class _Parent(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            go.set()

        def connection_lost(self, error: Exception | None) -> None:
            stop.set()

    await asyncio.get_running_loop().connect_read_pipe(_Parent, sys.stdin)
    waits = [asyncio.ensure_future(go.wait()), asyncio.ensure_future(stop.wait())]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop  # noqa: PLC0415 - not installed on Windows

    return uvloop.new_event_loop
