"""The servers of a fault run: real ones, behind a proxy for every process, and on a small disk that can be filled."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from service.stack.answering import kafka_answers, postgres_answers
from service.stack.interface import StackError
from service.stack.local_kafka import LocalKafka
from service.stack.local_postgres import LocalPostgres
from service.stack.ports import LOOPBACK, choose_free
from service.stack.resolver import default_cache
from tests.nemesis.tcp_proxy import TcpProxy

DISK_BYTES: Final = 3 * 2**30
"""Of Postgres's small disk: memory, of which only what is used is taken."""

DISK_CHUNK_BYTES: Final = 4 * 2**20
BACK_WITHIN_S: Final = 60.0
WATCH_PAUSE_S: Final = 0.1
_BALLAST: Final = "ballast"


class KafkaBehindProxies(LocalKafka):
    """A broker with a listener for each proxy: it tells every client the address of that client's own proxy."""

    def __init__(self, folder: Path, ports: Sequence[int], proxies: Mapping[str, TcpProxy], behind: Sequence[int]):
        super().__init__(folder, default_cache(), ports[0], ports[1])
        self._proxies = dict(zip(proxies, zip(behind, proxies.values(), strict=True), strict=True))

    def _write_properties(self) -> None:
        super()._write_properties()
        lines = dict(line.split("=", 1) for line in self._properties.read_text().splitlines())
        for index, (listens_on, proxy) in enumerate(self._proxies.values()):
            name = f"PROXY{index}"
            lines["listeners"] += f",{name}://{LOOPBACK}:{listens_on}"
            lines["advertised.listeners"] += f",{name}://{LOOPBACK}:{proxy.port}"
            lines["listener.security.protocol.map"] += f",{name}:PLAINTEXT"
            lines[f"listener.name.{name.lower()}.num.network.threads"] = "1"
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))


class Servers:
    """Kafka and Postgres of one run. Whatever ends them, they are started again."""

    def __init__(self, home: Path, seats: Sequence[str], say: Callable[[str], None]) -> None:
        self.kafka_proxies = {seat: TcpProxy(0) for seat in seats}
        self.postgres_proxies = {seat: TcpProxy(0, speaks_postgres=True) for seat in seats}
        self._home = home
        self._say = say
        self.kafka: KafkaBehindProxies
        self.postgres: LocalPostgres
        self._disk = home / "postgres" / "server"
        self._keepers: list[asyncio.Task[None]] = []
        self._hold = {"kafka": asyncio.Lock(), "postgres": asyncio.Lock()}
        """Held while a server is stopped on purpose or being started, so that only one does it."""
        self.starts = {"kafka": 0, "postgres": 0}

    @property
    def kafka_address(self) -> str:
        """Past all proxies."""
        return self.kafka.address

    @property
    def postgres_url(self) -> str:
        """Past all proxies."""
        return self.postgres.url

    def postgres_url_of(self, seat: str) -> str:
        """Through the proxy of a process."""
        parts = urlsplit(self.postgres.url)
        netloc = f"{parts.netloc.rpartition('@')[0]}@{LOOPBACK}:{self.postgres_proxies[seat].port}"
        return urlunsplit(parts._replace(netloc=netloc))

    def kafka_address_of(self, seat: str) -> str:
        """Through the proxy of a process."""
        return f"{LOOPBACK}:{self.kafka_proxies[seat].port}"

    @property
    def disk_can_be_filled(self) -> bool:
        """Whether Postgres has a small disk of its own; only root can make one."""
        return self._disk.is_mount()

    def mount_disk(self) -> str | None:
        """Give Postgres a small disk, before the first start. Why not, in words, where that is not possible."""
        if os.geteuid() != 0:
            return "only root may mount a small disk"
        self._disk.mkdir(parents=True, exist_ok=True)
        options = ["-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0755", "tmpfs"]
        mounted = subprocess.run(["mount", *options, str(self._disk)], capture_output=True, text=True, check=False)
        return None if mounted.returncode == 0 else f"a small disk cannot be mounted: {mounted.stderr.strip()}"

    async def start(self) -> None:
        """Raises StackError."""
        proxies = list(self.kafka_proxies.values())
        ports = choose_free(3 + len(proxies))
        for proxy, port in zip(proxies, ports[3:], strict=True):
            proxy.lead_to(port)
            await proxy.start()
        for proxy in self.postgres_proxies.values():
            proxy.lead_to(ports[2])
            await proxy.start()
        self.kafka = KafkaBehindProxies(self._home / "kafka", ports[:2], self.kafka_proxies, ports[3:])
        # Durable: an immediate shutdown may lose nothing that was committed.
        self.postgres = LocalPostgres(self._home / "postgres", ports[2], durable=True)
        await asyncio.gather(self.kafka.start(self._note), self.postgres.start(self._note))
        self._keepers = [
            asyncio.create_task(self._keep("kafka", self.kafka), name="keep Kafka"),
            asyncio.create_task(self._keep("postgres", self.postgres), name="keep Postgres"),
        ]

    async def stop(self) -> None:
        """Servers, proxies, disk."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        await self.kafka.stop(self._note)
        await self.postgres.stop(self._note)
        for proxy in (*self.kafka_proxies.values(), *self.postgres_proxies.values()):
            await proxy.stop()

    def unmount_disk(self, *, keep: bool) -> None:
        """Take the small disk away, after the servers have stopped; what is on it is copied out, or goes with it."""
        if not self._disk.is_mount():
            return
        copy = self._disk.with_name("kept")
        if keep:  # with its owner, who is the server's account
            subprocess.run(["cp", "--archive", str(self._disk), str(copy)], check=False)
        subprocess.run(["umount", "--lazy", str(self._disk)], check=False)
        if keep:
            self._disk.rmdir()
            copy.rename(self._disk)

    async def kill_kafka(self, away_s: float) -> None:
        """kill -9; start it again after a while. Returns when it answers."""
        await self._end("kafka", self.kafka, signal.SIGKILL, away_s)
        await self.until_back("kafka")

    async def quit_postgres(self, away_s: float) -> None:
        """Immediate shutdown; start it again after a while. Returns when it answers."""
        await self._end("postgres", self.postgres, signal.SIGQUIT, away_s)
        await self.until_back("postgres")

    async def fill_disk(self, lasts_s: float) -> None:
        """Leave Postgres no room for a while. Returns when it answers again, having been started again if it ended."""
        await asyncio.to_thread(self._fill)
        try:
            deadline = asyncio.get_running_loop().time() + lasts_s
            while (left := deadline - asyncio.get_running_loop().time()) > 0:
                # What Postgres frees meanwhile (segments of its log) is taken as well.
                await asyncio.to_thread(self._fill)
                await asyncio.sleep(min(left, 0.5))
        finally:
            (self._disk / _BALLAST).unlink(missing_ok=True)
        await self.until_back("postgres")

    async def until_back(self, name: str) -> None:
        """Return when the server answers. Raises StackError after BACK_WITHIN_S."""
        wrong: str | None = "never asked"
        deadline = asyncio.get_running_loop().time() + BACK_WITHIN_S
        while asyncio.get_running_loop().time() < deadline:
            wrong = await (
                kafka_answers(self.kafka_address) if name == "kafka" else postgres_answers(self.postgres.url)
            )
            if wrong is None:
                return
            await asyncio.sleep(WATCH_PAUSE_S)
        raise StackError(f"{name} did not come back within {BACK_WITHIN_S:g} s: {wrong}")

    async def _end(self, name: str, server: LocalKafka | LocalPostgres, number: signal.Signals, away_s: float) -> None:
        async with self._hold[name]:
            pid = server.process.pid
            if pid is not None:
                os.kill(pid, number)
            async with asyncio.timeout(BACK_WITHIN_S):
                while server.process.pid is not None:  # noqa: ASYNC110 - the end of what is not our child
                    await asyncio.sleep(0.02)
            await asyncio.sleep(away_s)
            await self._start_again(name, server.start)

    async def _keep(self, name: str, server: LocalKafka | LocalPostgres) -> None:
        while True:
            await asyncio.sleep(WATCH_PAUSE_S)
            if server.process.pid is None:
                async with self._hold[name]:
                    if server.process.pid is None:
                        self._say(f"{name} has ended and is started again")
                        await self._start_again(name, server.start)

    async def _start_again(self, name: str, start: Callable[[Callable[[str], None]], Awaitable[None]]) -> None:
        while True:
            try:
                await start(self._note)
            except StackError as error:
                # On a full disk it ends at once: a supervisor tries again and again.
                self._note(f"{name} does not start: {error}")
                await asyncio.sleep(0.5)
            else:
                self.starts[name] += 1
                return

    def _fill(self) -> None:
        with (self._disk / _BALLAST).open("ab") as ballast:
            for chunk in (DISK_CHUNK_BYTES, 4096):
                while True:
                    try:
                        os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, chunk)
                    except OSError:  # no room for another one
                        break

    def _note(self, line: str) -> None:
        with (self._home / "servers.log").open("a") as log:
            log.write(line + "\n")
