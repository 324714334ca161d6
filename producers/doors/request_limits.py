"""What one request may take of the service, whoever makes it: length, time, and a place among those under way."""

import asyncio
from typing import Final

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from producers.doors.doorkeeper import OPEN_ROUTES
from producers.doors.refusals import refuse

URL_BYTES_MAX: Final = 8_192
"""Path and query; an owner id of 128 characters can need 1,536 bytes of it."""

BODY_WAIT_S: Final = 30
"""How long a body may take to arrive."""

BODIES_BYTES_MAX: Final = 256 * 2**20
"""Bytes of bodies that all requests under way may hold together."""

RETRY_AFTER_S: Final = 1
_TOO_LARGE: Final = b'{"detail":"The body is too large; nothing was sent"}'


class RequestLimits:
    """ASGI middleware. Routes that need no key are not counted, so that health answers while all places are taken."""

    def __init__(self, app: ASGIApp, *, under_way_max: int, body_wait_s: float = BODY_WAIT_S) -> None:
        """
        Args:
            app: what is limited.
            under_way_max: requests that may be under way at a time: each may wait for an outcome, or for a read model.
            body_wait_s: see `BODY_WAIT_S`.
        """
        self._app = app
        self._under_way_max = under_way_max
        self._body_wait_s = body_wait_s
        self._under_way = 0
        self._body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > URL_BYTES_MAX:
            await refuse(scope, receive, send, 414, f"The URL is too long: at most {URL_BYTES_MAX:,} bytes")
            return
        if scope["path"] in OPEN_ROUTES:
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._under_way_max:
            detail = f"{self._under_way_max:,} requests are under way already; nothing was sent, try again"
            await refuse(scope, receive, send, 503, detail, {"Retry-After": str(RETRY_AFTER_S)})
            return
        self._under_way += 1
        body = _Body(receive, self, self._body_wait_s)
        try:
            await self._app(scope, body.receive, _TooLargeInJson(send))
        finally:
            self._under_way -= 1
            self._body_bytes -= body.bytes_held

    def hold(self, count: int) -> None:
        """A request takes so many bytes more. Raises HTTPException."""
        if self._body_bytes + count > BODIES_BYTES_MAX:
            detail = "Too many large requests are under way; nothing was sent, try again"
            raise HTTPException(503, detail, {"Retry-After": str(RETRY_AFTER_S)})
        self._body_bytes += count


class _Body:
    """The body of one request as it arrives; what it raises FastAPI answers, as it raises it while reading."""

    def __init__(self, receive: Receive, limits: RequestLimits, wait_s: float) -> None:
        self._receive = receive
        self._limits = limits
        self._until = asyncio.get_running_loop().time() + wait_s
        self._wait_s = wait_s
        self._complete = False
        self.bytes_held = 0

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()  # only the caller's going away is waited for
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError as error:
            detail = f"The body did not arrive within {self._wait_s:g} s; nothing was sent"
            raise HTTPException(408, detail, {"Connection": "close"}) from error
        count = len(message.get("body", b""))
        self._limits.hold(count)
        self.bytes_held += count
        self._complete = not message.get("more_body", False)
        return message


class _TooLargeInJson:
    """Puts a 413 into the form that all errors have: the framework's own is plain text where Content-Length tells."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 413:
            self._replaced = True
            headers = [
                (b"content-type", b"application/json"),
                (b"content-length", str(len(_TOO_LARGE)).encode()),
                (b"connection", b"close"),  # what is left of the body is not read
            ]
            await self._send({"type": "http.response.start", "status": 413, "headers": headers})
            await self._send({"type": "http.response.body", "body": _TOO_LARGE})
        elif not self._replaced:
            await self._send(message)
