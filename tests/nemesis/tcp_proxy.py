"""A way to a server that can be blocked in one direction, slowed down, cut, or cut in the middle of a COMMIT."""

import asyncio
import contextlib
from enum import StrEnum
from typing import Final

from service.stack.ports import LOOPBACK
from tests.nemesis.frontend_protocol import FrontendProtocol

_CHUNK_BYTES: Final = 65_536


class Direction(StrEnum):
    """Which way bytes go."""

    TO_SERVER = "to server"
    TO_CLIENT = "to client"


class TcpProxy:
    """Listens on a port of loopback of its own and hands everything on to a port of loopback.

    What is blocked is not lost but late, as with a real network: TCP sends it again until one side gives up.
    """

    def __init__(self, upstream_port: int, *, speaks_postgres: bool = False) -> None:
        self._upstream_port = upstream_port
        self._speaks_postgres = speaks_postgres
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = {direction: asyncio.Event() for direction in Direction}
        self._knife: asyncio.Future[None] | None = None
        self._one_cut_at_a_time = asyncio.Lock()
        self.delay_s = 0.0
        """How late everything arrives, in both directions."""
        self.port = 0
        for gate in self._open.values():
            gate.set()

    async def start(self, port: int = 0) -> None:
        """Listen; `port` 0 chooses one."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def lead_to(self, upstream_port: int) -> None:
        """From now on new connections lead there."""
        self._upstream_port = upstream_port

    async def stop(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    @property
    def upstream_ports(self) -> list[int]:
        """Where the connections come from as the server sees it."""
        return [connection.upstream_port for connection in self._connections]

    def block(self, direction: Direction) -> None:
        """Nothing passes in this direction any more; the connections stay, and new ones can be made."""
        self._open[direction].clear()

    def unblock(self, direction: Direction) -> None:
        """What was held back goes on."""
        self._open[direction].set()

    def cut(self) -> int:
        """End all connections at once; how many there were."""
        connections = list(self._connections)
        for connection in connections:
            connection.cut()
        return len(connections)

    async def cut_after_commit(self, limit_s: float) -> bool:
        """Wait for the next COMMIT of any connection: the server gets it, the client is cut off before the answer.

        Returns whether there was one within the limit.
        """
        assert self._speaks_postgres
        try:
            async with asyncio.timeout(limit_s), self._one_cut_at_a_time:
                self._knife = asyncio.get_running_loop().create_future()
                try:
                    await self._knife
                finally:
                    self._knife = None
        except TimeoutError:
            return False
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(LOOPBACK, self._upstream_port)
        except OSError:
            writer.transport.abort()
            return
        connection = _Connection(writer, upstream_writer)
        self._connections.add(connection)
        pumps = [
            asyncio.create_task(self._pump(connection, reader, upstream_writer, Direction.TO_SERVER)),
            asyncio.create_task(self._pump(connection, upstream_reader, writer, Direction.TO_CLIENT)),
        ]
        for pump in pumps:
            self._tasks.add(pump)
            pump.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.cut()
            self._connections.discard(connection)
            for pump in pumps:
                pump.cancel()

    async def _pump(
        self,
        connection: "_Connection",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
    ) -> None:
        gate = self._open[direction]
        follows = FrontendProtocol() if self._speaks_postgres and direction is Direction.TO_SERVER else None
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK_BYTES):
                await gate.wait()
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if connection.knife is not None:
                    return  # this is the answer to the COMMIT: the client is cut off instead
                commit_end = follows.commit_end(data) if follows is not None else None
                knife = self._knife
                if commit_end is None or knife is None or knife.done():
                    writer.write(data)
                    await writer.drain()
                    continue
                connection.knife = knife
                writer.write(data[:commit_end])
                await writer.drain()
                await connection.ended.wait()
            await gate.wait()  # the end of the connection does not pass either


class _Connection:
    """Both ends of one connection."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._client = client
        self._server = server
        self.upstream_port: int = server.get_extra_info("sockname")[1]
        self.ended = asyncio.Event()
        self.knife: asyncio.Future[None] | None = None
        """Once a COMMIT was sent whose answer is not to arrive; done when the client was cut off."""

    def cut(self) -> None:
        """End both at once."""
        self._client.transport.abort()
        self._server.transport.abort()
        self.ended.set()
        if self.knife is not None and not self.knife.done():
            self.knife.set_result(None)
