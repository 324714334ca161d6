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
HALTED_SURE_S: Final = 5.0
"""After so long with nothing wrong but halted partitions, waiting longer is of no use."""


class NotReadyError(Exception):
    """Something did not become ready in time; the text says what, and what was the last answer."""


async def until_ready(what: str, ask: Callable[[], Awaitable[str | None]], limit_s: float = READY_WITHIN_S) -> None:
    """Ask again until the answer is None: ready. Raises NotReadyError after the limit, with the last answer."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while (missing := await ask()) is not None:
        if asyncio.get_running_loop().time() > deadline:
            raise NotReadyError(f"{what} did not become ready within {limit_s:g} s: {missing}")
        await asyncio.sleep(PAUSE_S)


Problems = Callable[[], Awaitable[list[str]]]
"""Asks what is wrong where HTTP does not tell: it tells holders of API keys only, once there are any."""


async def until_serving(
    url: str, ask_problems: Problems, limit_s: float = READY_WITHIN_S, halted_sure_s: float = HALTED_SURE_S
) -> list[str]:
    """Wait until the HTTP service finds all parts working, or nothing wrong but partitions that are halted.

    Those stand still until an operator acts, who needs a ledger that runs; they are returned, as the service says it.

    Raises:
        NotReadyError: something else was missing after the limit.
    """
    loop = asyncio.get_running_loop()
    halted: list[str] = []
    only_halted_since: float | None = None

    async def missing() -> str | None:
        nonlocal halted, only_halted_since
        answer, problems = await asyncio.to_thread(_ask, f"{url}/health/ready")
        if problems is None:
            problems = await ask_problems()
            answer = f"{answer}: {'; '.join(problems)}"
        halted = [problem for problem in problems if " is halted: " in problem]
        if len(halted) != len(problems):
            halted = []
        if not halted:
            only_halted_since = None
            return answer
        # A halt of the run before is told until the partition is claimed again.
        only_halted_since = loop.time() if only_halted_since is None else only_halted_since
        return None if loop.time() - only_halted_since >= halted_sure_s else answer

    await until_ready("the HTTP service", missing, limit_s)
    return halted


def _ask(url: str) -> tuple[str | None, list[str] | None]:
    """What is missing, None when nothing is; and what is wrong, as the answer tells it, None where it keeps it back."""
    try:
        with urllib.request.urlopen(url, timeout=ASK_TIMEOUT_S) as answer:  # noqa: S310 - our own http:// address
            return (None if answer.status == 200 else f"{url} answers {answer.status}"), []
    except urllib.error.HTTPError as error:
        problems = _problems(error)
        text = f"{url} answers {error.code}"
        return (text, None) if problems is None else (f"{text}: {'; '.join(problems) or error.reason}", problems)
    except OSError as error:
        return f"{url}: {error}", []


def _problems(error: urllib.error.HTTPError) -> list[str] | None:
    try:
        parts = json.load(error)
    except ValueError:
        return []
    if parts.keys() == {"status"}:
        return None
    return [problem for part in parts.values() if isinstance(part, dict) for problem in part.get("problems", ())]
