"""Waiting with a limit for calls into aiokafka that can hang when a broker dies."""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


async def finish_within(limit_s: float, call: Coroutine[Any, Any, Any]) -> bool:
    """Run `call`; after `limit_s` seconds cancel it and go on without waiting for its end. Its errors are dropped.

    `asyncio.wait_for` does not do: it waits until the cancelled call has ended, and some of aiokafka's never do.

    Returns:
        Whether it came to its end within the limit, with or without an error.
    """
    task = asyncio.ensure_future(call)
    task.add_done_callback(_forget_error)
    try:
        done, _ = await asyncio.wait([task], timeout=limit_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
    return bool(done)


def _forget_error(task: asyncio.Future[Any]) -> None:
    """Retrieve the error, so that asyncio does not complain of one that nobody looked at."""
    with suppress(asyncio.CancelledError):
        task.exception()
