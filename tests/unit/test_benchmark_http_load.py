"""The client that puts HTTP under load: what it counts as answered was answered."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable

import pytest

from benchmarks.http_load import get, post, put_under_load
from benchmarks.ledger_process import MeasurementError

Serve = Callable[[bytes], bytes]


@pytest.fixture
async def served() -> AsyncIterator[tuple[int, list[bytes], list[bytes]]]:
    """A service on a port: what it was asked, and what it answers, in turn and then the last for ever."""
    asked: list[bytes] = []
    answers: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            asked.append(data)
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            # In two pieces: an answer need not come at once.
            writer.write(answer[: len(answer) // 2])
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(answer[len(answer) // 2 :])
            if not answer:
                writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], asked, answers
    server.close()


def answer(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


async def test_every_answer_is_counted(served: tuple[int, list[bytes], list[bytes]]) -> None:
    port, asked, answers = served
    answers.append(answer(200, b'{"balance": 3}'))
    load = await put_under_load(port, [itertools.repeat(get("/x")), itertools.repeat(post("/y", b"{}"))], 0.05)
    assert len(load.waits_ms) == load.statuses[200] == len(asked) > 2
    assert {request.split(b" HTTP")[0] for request in asked} == {b"GET /x", b"POST /y"}
    assert load.per_s == pytest.approx(len(asked) / load.elapsed_s)


async def test_a_refusal_is_an_error(served: tuple[int, list[bytes], list[bytes]]) -> None:
    port, _, answers = served
    answers += [answer(200), answer(429, b"too much"), answer(200)]
    with pytest.raises(MeasurementError, match="too much"):
        await put_under_load(port, [itertools.repeat(get("/x"))], 0.05)


async def test_a_broken_connection_is_an_error(served: tuple[int, list[bytes], list[bytes]]) -> None:
    port, _, answers = served
    answers += [answer(200), b""]
    with pytest.raises(MeasurementError, match="closed a connection"):
        await put_under_load(port, [itertools.repeat(get("/x"))], 0.05)
