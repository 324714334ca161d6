"""The proxy between a process and its servers: what it blocks, what it cuts, and where a COMMIT ends."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

import pytest

from service.stack.ports import LOOPBACK
from tests.nemesis.frontend_protocol import FrontendProtocol
from tests.nemesis.tcp_proxy import Direction, TcpProxy

LIMIT_S = 5.0
MOMENT_S = 0.1
"""Long enough for what is not blocked to arrive; were it too short, a test would pass that should fail, never fail."""


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


HELLO = struct.pack(">II", 8, 80877103) + struct.pack(">II", 8, 196608)
"""A question for TLS, and the begin of a session."""
BEGIN, COMMIT = message(b"Q", b"BEGIN;\0"), message(b"Q", b"COMMIT;\0")
PREPARED_COMMIT = (
    message(b"P", b"s\0COMMIT\0\0\0") + message(b"B", b"p\0s\0\0\0\0\0\0\0") + message(b"E", b"p\0\0\0\0\0")
)
SYNC = message(b"S", b"")
COPY = message(b"d", b"QCOMMIT" * 1000)


@pytest.mark.parametrize("commit", [COMMIT, PREPARED_COMMIT + SYNC], ids=["simple", "prepared"])
@pytest.mark.parametrize("chunk", [1, 3, 1000, 100_000])
def test_where_a_commit_ends(commit: bytes, chunk: int) -> None:
    said = HELLO + BEGIN + COPY + commit
    stream = said + BEGIN + COPY
    protocol = FrontendProtocol()
    found = []
    for begin in range(0, len(stream), chunk):
        end = protocol.commit_end(stream[begin : begin + chunk])
        if end is not None:
            found.append(begin + end)
    assert found == [len(said)]


def test_a_commit_that_was_not_executed_yet_is_none() -> None:
    protocol = FrontendProtocol()
    assert protocol.commit_end(HELLO + PREPARED_COMMIT) is None
    assert protocol.commit_end(SYNC) == len(SYNC)


class EchoServer:
    """Answers every chunk with the same bytes, and keeps what it was sent."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.server: asyncio.Server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.received += data
            writer.write(data)
            await writer.drain()

    @property
    def port(self) -> int:
        port: int = self.server.sockets[0].getsockname()[1]
        return port


@pytest.fixture
async def server() -> AsyncIterator[EchoServer]:
    echo = EchoServer()
    echo.server = await asyncio.start_server(echo.serve, LOOPBACK, 0)
    yield echo
    echo.server.close()


@pytest.fixture
async def proxy(server: EchoServer) -> AsyncIterator[TcpProxy]:
    proxy = TcpProxy(server.port, speaks_postgres=True)
    await proxy.start()
    yield proxy
    await proxy.stop()


async def arrives(reader: asyncio.StreamReader, expected: bytes) -> bool:
    try:
        return await asyncio.wait_for(reader.readexactly(len(expected)), MOMENT_S) == expected
    except TimeoutError:
        return False


async def test_a_direction_that_is_blocked_delays_and_loses_nothing(server: EchoServer, proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    writer.write(HELLO)
    assert await asyncio.wait_for(reader.readexactly(len(HELLO)), LIMIT_S) == HELLO
    proxy.block(Direction.TO_CLIENT)
    writer.write(BEGIN)
    assert not await arrives(reader, BEGIN)
    assert bytes(server.received) == HELLO + BEGIN, "the other direction is open"
    proxy.unblock(Direction.TO_CLIENT)
    assert await asyncio.wait_for(reader.readexactly(len(BEGIN)), LIMIT_S) == BEGIN
    proxy.block(Direction.TO_SERVER)
    writer.write(COPY)
    assert not await arrives(reader, COPY)
    assert bytes(server.received) == HELLO + BEGIN
    proxy.unblock(Direction.TO_SERVER)
    assert await asyncio.wait_for(reader.readexactly(len(COPY)), LIMIT_S) == COPY
    writer.close()


async def test_a_cut_after_commit_reaches_the_server_and_never_answers(server: EchoServer, proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    writer.write(HELLO + BEGIN)
    assert await asyncio.wait_for(reader.readexactly(len(HELLO + BEGIN)), LIMIT_S) == HELLO + BEGIN
    knife = asyncio.create_task(proxy.cut_after_commit(LIMIT_S))
    await asyncio.sleep(0)
    writer.write(COMMIT + BEGIN)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await asyncio.wait_for(reader.read(), LIMIT_S)
    assert answer == b""
    assert await knife
    assert bytes(server.received) == HELLO + BEGIN + COMMIT
    assert proxy.connections == 0


async def test_two_cuts_that_overlap_take_two_commits(proxy: TcpProxy) -> None:
    knives = [asyncio.create_task(proxy.cut_after_commit(LIMIT_S)) for _ in range(2)]
    for knife in knives:
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(HELLO)
        assert await asyncio.wait_for(reader.readexactly(len(HELLO)), LIMIT_S) == HELLO
        writer.write(COMMIT)
        assert await knife
    assert proxy.connections == 0


async def test_a_cut_that_finds_no_commit_says_so_and_cuts_nothing(proxy: TcpProxy) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
    writer.write(HELLO + BEGIN)
    assert not await proxy.cut_after_commit(MOMENT_S)
    writer.write(COMMIT)
    expected = HELLO + BEGIN + COMMIT
    assert await asyncio.wait_for(reader.readexactly(len(expected)), LIMIT_S) == expected
    writer.close()


async def test_a_cut_ends_every_connection_and_new_ones_can_be_made(proxy: TcpProxy) -> None:
    reader, _ = await asyncio.open_connection(LOOPBACK, proxy.port)
    async with asyncio.timeout(LIMIT_S):
        while not proxy.connections:  # noqa: ASYNC110 - the proxy has accepted it, or not yet
            await asyncio.sleep(0)
        assert proxy.cut() == 1
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        reader, writer = await asyncio.open_connection(LOOPBACK, proxy.port)
        writer.write(HELLO)
        assert await reader.readexactly(len(HELLO)) == HELLO
        writer.close()
