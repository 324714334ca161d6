"""A FastAPI route that reads JSON as strictly as the ledger does, and whose 422 can always be written.

Python's own reader takes NaN, 1e400 and lone surrogates; FastAPI's 422 repeats the input, and an input with those in
it cannot be encoded again: a bad body would end as 500.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute


class StrictJsonRoute(APIRoute):
    """Use as `APIRouter(route_class=StrictJsonRoute)`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler between a strict reader and a plain 422."""
        handler = super().get_route_handler()

        async def strict_handler(request: Request) -> Response:
            try:
                return await handler(_StrictRequest(request.scope, request.receive))
            except RequestValidationError as error:
                return JSONResponse({"detail": _without_input(error)}, status_code=422)

        return strict_handler


def strict_json(body: bytes) -> Any:
    """Read a body as strictly as the ledger reads messages. Raises json.JSONDecodeError."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = str(error)
    except RecursionError:
        why = "nested too deeply"
    raise json.JSONDecodeError(why, "", 0)  # FastAPI makes a 422 of this error, and a 400 of any other


class _StrictRequest(Request):
    async def json(self) -> Any:
        return strict_json(await self.body())


def _without_input(error: RequestValidationError) -> list[dict[str, Any]]:
    return [
        {
            "loc": [part if isinstance(part, int) else _encodable(str(part)) for part in line["loc"]],
            "msg": _encodable(_message(line)),
            "type": line["type"],
        }
        for line in error.errors()
    ]


def _message(line: Any) -> str:
    message = str(line["msg"])
    return f"{message}: {line['ctx']['error']}" if line["type"] == "json_invalid" else message


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
