"""A process of a fault run and its supervisor: it is killed and frozen, and started again whenever it has ended."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

RESTART_PAUSE_S: Final = 0.5
STOP_LIMIT_S: Final = 40.0
"""How long an orderly stop may take before the process is killed, which the report says."""


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended that nobody had killed or stopped."""

    name: str
    code: int
    lived_s: float


class SupervisedProcess:
    """One process that is kept alive until it is stopped. Its standard input is a pipe from us: it ends when we do."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """
        Args:
            folder: for its log and its pid file.
        """
        self.name = name
        self.environment = dict(environment)
        """For the next start."""
        self.log_file = folder / f"{name}.log"
        self.unexpected_ends: list[End] = []
        self.forced_stops = 0
        self.starts = 0
        self._command = list(command)
        self._pid_file = folder / f"{name}.pid.json"
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._end_is_wanted = False
        self._stopping = False

    async def start(self) -> None:
        """Start it, and from now on again whenever it ends."""
        await self._spawn()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    @property
    def pid(self) -> int | None:
        """The running (or frozen) process, or None."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def kill(self) -> bool:
        """kill -9. Whether it ran."""
        return self._send(signal.SIGKILL, end_is_wanted=True)

    def freeze(self) -> bool:
        """SIGSTOP. Whether it ran."""
        return self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT; no error if it has ended meanwhile."""
        self._send(signal.SIGCONT)

    async def restart(self) -> None:
        """Stop it in order; the supervisor starts it again."""
        starts = self.starts
        self._send(signal.SIGTERM, end_is_wanted=True)
        async with asyncio.timeout(STOP_LIMIT_S):
            while self.starts == starts:  # noqa: ASYNC110 - the supervisor's count is what tells
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Stop it in order, within a limit, and for good."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            self._send(signal.SIGCONT)
            self._send(signal.SIGTERM, end_is_wanted=True)
            try:
                await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
            except TimeoutError:
                self.forced_stops += 1
                self._send(signal.SIGKILL, end_is_wanted=True)
                await process.wait()
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        self._pid_file.unlink(missing_ok=True)

    def _send(self, number: signal.Signals, *, end_is_wanted: bool = False) -> bool:
        pid = self.pid
        if pid is None:
            return False
        if end_is_wanted:
            self._end_is_wanted = True
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            began = time.monotonic()
            code = await self._process.wait()
            if self._stopping:
                return
            if not self._end_is_wanted:
                self.unexpected_ends.append(End(self.name, code, time.monotonic() - began))
            await asyncio.sleep(RESTART_PAUSE_S)
            await self._spawn()

    async def _spawn(self) -> None:
        self._end_is_wanted = False
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        self.starts += 1
        with contextlib.suppress(psutil.NoSuchProcess):
            started_at = psutil.Process(self._process.pid).create_time()
            self._pid_file.write_text(json.dumps({"pid": self._process.pid, "started_at": started_at}))
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")
