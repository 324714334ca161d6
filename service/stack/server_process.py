"""One server as a process: started apart from the terminal, known by a pid file, stopped with limits."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

_START_TIME_TOLERANCE_S = 0.5
_KILLED_WITHIN_S = 10.0
_PAUSE_S = 0.02
_LOG_BYTES_MAX = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RunAs:
    """The account under which a process runs."""

    uid: int
    gid: int


class ServerProcess:
    """A process that outlives whoever started it, until it is stopped.

    It is known by its pid together with the time it began, so that a pid that was given to another program
    after a crash or a reboot is never taken for the server.
    """

    def __init__(self, pid_file: Path, log_file: Path) -> None:
        self.log_file = log_file
        self._pid_file = pid_file

    @property
    def pid(self) -> int | None:
        """The running server's pid, or None."""
        process = self._process()
        return None if process is None else process.pid

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        run_as: RunAs | None = None,
    ) -> None:
        """Starts the command in a session of its own, so that Ctrl-C in the terminal does not reach it: the
        applications are to be stopped first. Its output is appended to the log file.

        Raises:
            OSError: The program cannot be started.
        """
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        if self.log_file.exists() and self.log_file.stat().st_size > _LOG_BYTES_MAX:
            self.log_file.replace(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("ab") as log:
            started = subprocess.Popen(  # noqa: S603 - our own command line, no shell
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                start_new_session=True,
                **as_account(run_as),
            )
        started_at = psutil.Process(started.pid).create_time()
        self._pid_file.write_text(json.dumps({"pid": started.pid, "started_at": started_at}))
        # From here on it is looked after by its pid; a Popen that is forgotten would warn that it still runs.
        started.returncode = 0

    async def stop(self, signals: Sequence[tuple[signal.Signals, float]]) -> signal.Signals | None:
        """Sends each signal in turn and waits so many seconds for the end; then kills.

        Returns the signal that ended it, or None when it was not running.
        """
        ended_by = None
        for signal_sent, limit_s in (*signals, (signal.SIGKILL, _KILLED_WITHIN_S)):
            process = self._process()
            if process is None:
                break
            ended_by = signal_sent
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal_sent)
            await self._until_ended(limit_s)
        self._pid_file.unlink(missing_ok=True)
        return ended_by

    async def _until_ended(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        # Asked again and again: the end of a process that is not our child sets no event.
        while self.pid is not None and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_PAUSE_S)

    def _process(self) -> psutil.Process | None:
        try:
            known = json.loads(self._pid_file.read_text())
            process = psutil.Process(known["pid"])
            begun_s_apart = abs(process.create_time() - known["started_at"])
            if begun_s_apart > _START_TIME_TOLERANCE_S or not process.is_running():
                return None
            if process.status() != psutil.STATUS_ZOMBIE:
                return process
            # It has ended. If it is our child it waits for us; otherwise for an init that may take seconds.
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
            return None
        except (OSError, ValueError, KeyError, TypeError, psutil.Error):
            return None  # no file, half a file, or no such process: in each case no server of ours runs


def last_lines(log_file: Path, count: int = 12) -> str:
    """The end of a log, indented, for an error message; empty if there is none."""
    try:
        lines = log_file.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"    {line}" for line in lines[-count:])


class _Account(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def as_account(run_as: RunAs | None) -> _Account:
    """Arguments of subprocess.Popen; none when the process is to run as whoever starts it."""
    if run_as is None or os.geteuid() == run_as.uid:
        return {}
    return {"user": run_as.uid, "group": run_as.gid, "extra_groups": []}
