"""One process of the ledger, as `make run` starts it."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

STOP_LIMIT_S: Final = 30.0
_LOG_LINES: Final = 15


class MeasurementError(Exception):
    """What was to be measured did not happen; the text says what."""


class LedgerProcess:
    """`ledger run NAME`, or another module of ours, as a process of its own."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.name = name
        self.pid = process.pid
        self.holder = f"{socket.gethostname()}:{process.pid}"
        """As it appears in the record where it holds a partition."""
        self._process = process
        self._log_file = log_file

    def check(self) -> None:
        """Raises MeasurementError when it has ended."""
        if self._process.poll() is not None:
            lines = "\n".join(self._log_file.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise MeasurementError(f"the {self.name} ended with {self._process.returncode}:\n{lines}")

    async def stop(self) -> None:
        """Orderly, then by force."""
        self._process.terminate()
        try:
            await asyncio.to_thread(self._process.wait, STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)


def start_process(name: str, module: list[str], environment: Mapping[str, str], log_file: Path) -> LedgerProcess:
    """Start `python -m MODULE`, with what it says appended to a file."""
    with log_file.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(environment),
            start_new_session=True,
        )
    return LedgerProcess(name, process, log_file)
