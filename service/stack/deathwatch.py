"""Ends the local servers of a test session that was killed and could not stop them itself.

Run as a program it waits until its standard input ends, which the kernel does for it when the session's
process is gone, however it went; then it kills what the pid files in the home name, and removes the home.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path


class Deathwatch:
    """Over the servers of one home, from its creation until it is dismissed."""

    def __init__(self, home: Path) -> None:
        self._watcher = subprocess.Popen(  # noqa: S603 - this very file
            [sys.executable, "-I", "-S", __file__, str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """To be called after the servers have stopped: nothing is left to kill then."""
        self._watcher.kill()
        self._watcher.wait()
        if self._watcher.stdin is not None:
            self._watcher.stdin.close()


def _wait_and_kill(home: Path) -> None:
    sys.stdin.buffer.read()
    for pid_file in home.glob("*/pid.json"):
        try:
            # Postgres's own processes end when they notice that their parent has gone.
            os.kill(json.loads(pid_file.read_text())["pid"], signal.SIGKILL)
        except (OSError, ValueError):
            continue  # it has ended already
    shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    _wait_and_kill(Path(sys.argv[1]))
