"""A small HTTP/1.1 client for load: keep-alive connections, each with one request under way at a time.

About 20 us of CPU a request: libraries that can do more take a multiple of that, of the same cores that the service is
measured on. It reads answers that name their Content-Length, as every one of the services measured here does.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from benchmarks.ledger_process import MeasurementError

OK: Final = 200
ANSWER_LIMIT_S: Final = 30.0
"""A service that gives no answer for so long is taken to stand still."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END_OF_HEAD: Final = b"\r\n\r\n"


@dataclass(slots=True)
class Load:
    """What came of it."""

    elapsed_s: float = 0.0
    waits_ms: list[float] = field(default_factory=list)
    """Of each answered request, from its sending to the end of its answer."""

    statuses: Counter[int] = field(default_factory=Counter)
    refused: str = ""
    """The first answer that was not 200."""

    @property
    def per_s(self) -> float:
        """Requests answered in a second."""
        return len(self.waits_ms) / self.elapsed_s


def get(path: str) -> bytes:
    """A request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()


def post(path: str, body: bytes) -> bytes:
    """A request with JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + _END_OF_HEAD + body


async def put_under_load(port: int, requests: list[Iterator[bytes]], duration_s: float) -> Load:
    """Send requests for so long, over one connection for each iterator; answers to the last ones are waited for.

    Raises:
        MeasurementError: an answer was not 200, a connection broke, or an answer did not come.
    """
    loop = asyncio.get_running_loop()
    load = Load()
    began = time.perf_counter()
    connections = []
    for one in requests:
        _, connection = await loop.create_connection(lambda it=one: _Connection(it, load), "127.0.0.1", port)  # type: ignore[misc]
        connections.append(connection)
    began = time.perf_counter()
    for connection in connections:
        connection.go(began + duration_s)
    try:
        async with asyncio.timeout(duration_s + ANSWER_LIMIT_S):
            await asyncio.gather(*(connection.ended for connection in connections))
    except TimeoutError as error:
        raise MeasurementError(f"an HTTP answer did not come within {ANSWER_LIMIT_S:g} s") from error
    finally:
        for connection in connections:
            connection.close()
    load.elapsed_s = time.perf_counter() - began
    if set(load.statuses) != {OK}:
        raise MeasurementError(f"HTTP answers by status: {dict(load.statuses)}; the first refusal: {load.refused}")
    return load


class _Connection(asyncio.Protocol):
    def __init__(self, requests: Iterator[bytes], load: Load) -> None:
        self._requests = requests
        self._load = load
        self._received = b""
        self._until = 0.0
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not declared as one

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_exception(MeasurementError(f"the service closed a connection: {exc}"))

    def go(self, until: float) -> None:
        """Begin; no request is sent any more from `until` on."""
        self._until = until
        self._send()

    def close(self) -> None:
        """Whether it has ended or not."""
        if not self.ended.done():
            self.ended.cancel()
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        head_end = received.find(_END_OF_HEAD)
        if head_end < 0:
            return
        length = _LENGTH.search(received, 0, head_end)
        if length is None:
            self.ended.set_exception(MeasurementError(f"an answer without Content-Length: {received[:head_end]!r}"))
            return
        if len(received) < head_end + 4 + int(length[1]):
            return
        self._received = b""
        self._answered(int(received[9:12]), received[head_end + 4 :])

    def _answered(self, status: int, body: bytes) -> None:
        now = time.perf_counter()
        load = self._load
        load.statuses[status] += 1
        load.waits_ms.append((now - self._sent_at) * 1e3)
        if status != OK and not load.refused:
            load.refused = body[:500].decode(errors="replace")
        if now < self._until:
            self._send()
        elif not self.ended.done():
            self.ended.set_result(None)

    def _send(self) -> None:
        assert self._transport is not None
        request = next(self._requests)
        self._sent_at = time.perf_counter()
        self._transport.write(request)
