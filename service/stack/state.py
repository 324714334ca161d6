"""What the stack keeps in `LEDGER_HOME` for its next start and for other programs."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import get_args

from service.stack.interface import Addresses, StackError, StackName
from service.stack.ports import choose_free

_ADDRESSES = "stack.json"
_PORTS = "ports.json"
_USED = "stack-used"
_LOCK = "running.lock"


@dataclass(frozen=True, slots=True)
class RunningStack:
    """What a start has left for other programs: `ledger balance` in another shell finds the servers by it."""

    stack: StackName
    addresses: Addresses


def running_stack(home: Path) -> RunningStack | None:
    """The stack that was started from this home and not stopped since, or None. It may have died since."""
    try:
        stored = json.loads((home / _ADDRESSES).read_text())
        stack = stored.pop("stack")
        return RunningStack(stack, Addresses(**stored)) if stack in get_args(StackName) else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # never started, stopped, or a file that a crash cut short


def remember_running(home: Path, running: RunningStack) -> None:
    """Replaces what was remembered. The file holds the database's password: mode 0600."""
    landing = home / f"{_ADDRESSES}.{os.getpid()}"
    landing.unlink(missing_ok=True)
    with os.fdopen(os.open(landing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"stack": running.stack, **asdict(running.addresses)}, file)
    landing.replace(home / _ADDRESSES)


def forget_running(home: Path) -> None:
    """After a stop."""
    (home / _ADDRESSES).unlink(missing_ok=True)


def last_used(home: Path) -> StackName | None:
    """What the home's data lies in since its last start, or None before the first."""
    try:
        name = (home / _USED).read_text().strip()
    except OSError:
        return None
    for known in ("local", "docker", "external"):
        if name == known:
            return known
    return None


def remember_used(home: Path, name: StackName) -> None:
    """After a start."""
    (home / _USED).write_text(name)


def remembered_ports(home: Path, names: tuple[str, ...]) -> dict[str, int]:
    """A port for each name: chosen free at the first start, the same ones ever after."""
    path = home / _PORTS
    try:
        ports = {name: int(json.loads(path.read_text())[name]) for name in names}
    except (OSError, ValueError, TypeError, KeyError):
        ports = dict(zip(names, choose_free(len(names)), strict=True))
        home.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(ports))
    return ports


class HomeLock:
    """Only one program at a time runs a ledger from a home. The kernel lets go whenever the program ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._file: TextIOWrapper | None = None

    def acquire(self) -> None:
        """
        Raises:
            StackError: Another program runs a ledger from this home.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        file = (self._home / _LOCK).open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StackError(
                f"a ledger runs already from {self._home.resolve()} (process {lock_holder(self._home)}). "
                "Use that one, stop it (Ctrl-C there, or `make down`), or set LEDGER_HOME to another folder."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """Releasing twice, or what was never acquired, is no error."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None


def lock_holder(home: Path) -> int | None:
    """The process that runs a ledger from this home now, or None."""
    try:
        with (home / _LOCK).open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read() or 0) or None
    except (FileNotFoundError, ValueError):
        pass
    return None
