"""The ledger's processes as children of `ledger up`: started, looked after, stopped."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, get_args

from service.processes.lifecycle import STOP_LIMIT_S
from service.stack import Addresses, Login, Report

RESTART_PAUSES_S: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Before the first, second, ... restart of a child that keeps dying; the last one again and again."""

CALM_AFTER_S: Final = 60.0
"""A child that has lived this long begins again at the shortest pause."""

KILL_AFTER_S: Final = STOP_LIMIT_S + 5.0
LOG_BYTES_MAX: Final = 10 * 1024 * 1024
LAST_LINES: Final = 8


class Child:
    """One process, `ledger run NAME`, kept alive until it is stopped.

    It runs in a session of its own, so that Ctrl-C in the terminal does not reach it: the order of the stop is ours.
    Its standard input is a pipe from us: a line lets it begin, once what it needs is there (it loads its code
    meanwhile), and it stops by itself when we are gone, however we went.
    """

    def __init__(self, name: str, environment: Mapping[str, str], log_folder: Path, report: Report) -> None:
        self.name = name
        self.log_file = log_folder / f"{name}.log"
        self._environment = environment
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The running process, or None."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def load(self) -> None:
        """Start it, so that it loads its code. Raises OSError when it cannot be started."""
        await self._spawn()

    def begin(self) -> None:
        """Let it work; from now on start it again when it dies."""
        self._let_work()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def stop(self) -> None:
        """Tell it to stop, wait for its orderly end within a limit, then kill it. Never raises."""
        self._stopping = True
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), KILL_AFTER_S)
        except TimeoutError:
            self._report(f"{self.name} did not stop within {KILL_AFTER_S:g} s and is killed; see {self.log_file}")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it at once; committed work stays committed."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    def last_lines(self) -> str:
        """The end of its log, indented, for an error message."""
        try:
            lines = self.log_file.read_text(errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(f"    {line}" for line in lines[-LAST_LINES:])

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            assert self._process is not None
            started = loop.time()
            code = await self._process.wait()
            if self._stopping:
                return
            deaths = 0 if loop.time() - started > CALM_AFTER_S else deaths
            pause_s = RESTART_PAUSES_S[min(deaths, len(RESTART_PAUSES_S) - 1)]
            deaths += 1
            self._report(
                f"{self.name} ended unexpectedly ({_ended_by(code)}); starting it again in {pause_s:g} s. "
                f"The end of {self.log_file}:\n{self.last_lines()}"
            )
            await asyncio.sleep(pause_s)
            await self._spawn()
            self._let_work()

    def _let_work(self) -> None:
        process = self._process
        if process is not None and process.stdin is not None and not process.stdin.is_closing():
            process.stdin.write(b"go\n")

    async def _spawn(self) -> None:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "service.cli",
                "run",
                self.name,
                "--with-parent",
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=own_environment(os.environ, self._environment),
                start_new_session=True,
            )


def database_environment(addresses: Addresses, logins: tuple[Login, ...]) -> dict[str, str]:
    """What a process is told of the database: its own logins, or the owner's where it has none."""
    own: dict[str, str] = {}
    for login in logins:
        url: str | None = getattr(addresses, f"{login}_database_url")
        own |= {"LEDGER_DATABASE_URL": addresses.database_url} if url is None else {_setting(login): url}
    return own


def own_environment(ours: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """A child's environment: ours and what it is given, but of the database only what it is given."""
    hidden = {_setting(login) for login in get_args(Login)}
    return {name: value for name, value in ours.items() if name not in hidden} | dict(given)


def _setting(login: Login) -> str:
    return "LEDGER_DATABASE_URL" if login == "owner" else f"LEDGER_{login.upper()}_DATABASE_URL"


def _ended_by(code: int) -> str:
    if code < 0:
        return f"by {signal.Signals(-code).name}"
    return f"exit code {code}"
