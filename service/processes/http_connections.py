"""HTTP/1.1 connections with limits that uvicorn does not have: on the time a request's head takes, on their number."""

import asyncio
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_WAIT_S: Final = 10.0
"""How long a client may take from connecting, or from the first byte of a further request, to the end of the head."""

CONNECTIONS_MAX: Final = 4_000
"""Open connections; further ones are closed at once."""


class LimitedConnection(H11Protocol):
    """For `uvicorn.Config(http=...)`. Idle connections between requests are ended by uvicorn's timeout_keep_alive."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of the first request."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Wait for the end of the head only: what follows is waited for by whoever reads the body."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_timer is None:
            self._await_head()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_WAIT_S, self._end)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _end(self) -> None:
        # Not in the middle of an answer: a part of a further request may have come before the answer was complete.
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._await_head()
