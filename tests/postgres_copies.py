"""Copies of a Postgres server that tests make, kill and promote: standbys and restored backups, as local processes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil

from service.stack.answering import until_answering
from service.stack.local_postgres import LocalPostgres
from service.stack.ports import LOOPBACK, choose_free
from service.stack.postgres_place import PostgresPlace, write_secret
from tests.servers import say, server_home

LIMIT_S = 60.0


class CopiedPostgres(LocalPostgres):
    """A server on a copy of another one's data. Its databases came with the copy, and it may refuse to write."""

    async def _until_answering(self) -> str | None:
        return await until_answering(lets_in, self._url("postgres"), LIMIT_S, ended=lambda: self.process.pid is None)


async def lets_in(url: str) -> str | None:
    """None when the server lets its owner in, be it a standby; otherwise why not."""
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        return str(error) or type(error).__name__
    await connection.close()
    return None


class PostgresCopies:
    """A primary, and what is copied from it; all in one home, all gone at the end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.servers: dict[str, LocalPostgres] = {}

    async def start_primary(self) -> LocalPostgres:
        """An empty server that syncs to disk, as one of production does."""
        primary = self.servers["primary"] = LocalPostgres(self.home / "primary", choose_free(1)[0], durable=True)
        await primary.start(say)
        return primary

    async def base_backup(self, name: str, *, standby: bool = False) -> Path:
        """pg_basebackup of the primary; where the copy lies. `standby`: so that it follows the primary when started."""
        place = self._place(name)
        options = ["-X", "stream", "-c", "fast", *(["-R"] if standby else [])]
        command = [place.program("pg_basebackup"), "-D", str(place.data), "-d", self.servers["primary"].url, *options]
        await asyncio.to_thread(place.run, command)
        place.mark_initialised()
        return place.data

    async def start_copy(self, name: str, *, settings: str = "") -> LocalPostgres:
        """Start a server on the copy of this name; returns when it lets clients in. `settings` are added to its
        postgresql.auto.conf."""
        place = self._place(name)
        with (place.data / "postgresql.auto.conf").open("a") as file:
            file.write(settings)
        copy = self.servers[name] = CopiedPostgres(self.home / name, choose_free(1)[0], durable=True)
        write_secret(self.home / name / "password", (self.home / "primary" / "password").read_text())
        await copy.start(say)
        return copy

    def clone(self, backup: str, name: str) -> Path:
        """Copy the files of a backup, so that it can be restored twice; where they lie."""
        source, target = self._place(backup), self._place(name)
        target.run(["cp", "-R", str(source.data), str(target.data)])
        target.mark_initialised()
        return target.data

    def own_folder(self, name: str) -> Path:
        """A folder that the servers' account may write."""
        folder = self.home / name
        folder.mkdir()
        self._place("primary").own(folder)
        return folder

    def kill(self, name: str) -> float:
        """kill -9 of all of a server's processes at once, as when its machine is lost; when."""
        pid = self.servers[name].process.pid
        assert pid is not None
        postmaster = psutil.Process(pid)
        for process in [postmaster, *postmaster.children(recursive=True)]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        return time.monotonic()

    async def stop_all(self) -> None:
        """By force: nothing of them is needed any more."""
        for name, server in self.servers.items():
            if server.process.pid is not None:
                self.kill(name)
            await server.process.stop([])

    def url(self, *names: str) -> str:
        """The database `ledger` on these servers, in this order."""
        login, _, rest = self.servers[names[0]].url.rpartition("@")
        hosts = ",".join(self.servers[name].address for name in names)
        return f"{login}@{hosts}/{rest.partition('/')[2]}"

    async def execute(self, name: str, statement: str) -> object:
        """One value from one of the servers."""
        connection = await asyncpg.connect(self.url(name), timeout=LIMIT_S)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    async def until(self, name: str, statement: str, expected: object) -> None:
        """Wait until one of the servers answers what is expected."""
        deadline = time.monotonic() + LIMIT_S
        while (answer := await self.execute(name, statement)) != expected:
            assert time.monotonic() < deadline, f"{statement} answers {answer!r} on {name}, not {expected!r}"
            await asyncio.sleep(0.05)

    def _place(self, name: str) -> PostgresPlace:
        return PostgresPlace.find(self.home / name, lambda line: None)


@asynccontextmanager
async def postgres_copies() -> AsyncIterator[PostgresCopies]:
    """A home for them."""
    with server_home() as home:
        copies = PostgresCopies(home)
        try:
            yield copies
        finally:
            await copies.stop_all()


def port_of(address: str) -> int:
    """Of `host:port`."""
    return int(address.removeprefix(f"{LOOPBACK}:"))
