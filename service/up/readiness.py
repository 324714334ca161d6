"""Waiting until the processes of this start do their work, not only run."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Final

READY_WITHIN_S: Final = 60.0
ASK_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.1


class NotReadyError(Exception):
    """Something did not become ready in time; the text says what, and what was the last answer."""


async def until_ready(what: str, ask: Callable[[], Awaitable[str | None]], limit_s: float = READY_WITHIN_S) -> None:
    """Ask again until the answer is None: ready. Raises NotReadyError after the limit, with the last answer."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while (missing := await ask()) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise NotReadyError(f"{what} did not become ready within {limit_s:g} s: {missing}")
        await asyncio.sleep(PAUSE_S)


async def http_missing(url: str) -> str | None:
    """What the service's readiness answers is missing; None when it is ready."""
    return await asyncio.to_thread(_ask, f"{url}/health/ready")


def _ask(url: str) -> str | None:
    try:
        with urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S) as answer:  # noqa: S310 - our own http:// address
            return None if answer.status == 200 else f"{url} answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"{url} answers {error.code}: {_body(error)}"
    except OSError as error:
        return f"{url}: {error}"


def _body(error: urllib.error.HTTPError) -> str:
    try:
        return json.dumps(json.loads(error.read(2_000)))
    except ValueError:
        return error.reason
