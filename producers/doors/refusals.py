"""Answers of the middleware, in the form that all errors have: `{"detail": ...}`."""

from collections.abc import Mapping
from typing import Any

from fastapi.responses import JSONResponse
from starlette.types import Receive, Scope, Send


async def refuse(
    scope: Scope, receive: Receive, send: Send, status: int, detail: str, headers: Mapping[str, str] | None = None
) -> None:
    """Answer with an error. What the body of the request still holds is not read: the connection ends with it."""
    body: dict[str, Any] = {"detail": detail}
    await JSONResponse(body, status, dict(headers or {}))(scope, receive, send)
