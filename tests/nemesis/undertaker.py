"""Cleans up after a fault run that was itself killed: ends what its pid files name, and takes its small disk down.

Run as a program it waits until its standard input ends, which the kernel does for it when the run is gone.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self


class Undertaker:
    """Over one home, for the time of a `with` block; everything in it is stopped when the block ends."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self._home)], stdin=subprocess.PIPE, start_new_session=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _bury(home: Path) -> None:
    for pid_file in home.glob("**/*pid.json"):
        try:
            os.kill(json.loads(pid_file.read_text())["pid"], signal.SIGKILL)
        except (OSError, ValueError, KeyError):
            continue  # it has ended already
    for disk in home.glob("*/server"):
        if disk.is_mount():
            subprocess.run(["umount", "--lazy", str(disk)], check=False)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    _bury(Path(sys.argv[1]))
