"""A subscriber that runs beside the app's routes, and is started again when it could not go on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from consumers.subscriber import LedgerSubscriber

RESTART_PAUSE_FIRST_S: Final = 1.0
RESTART_PAUSE_MAX_S: Final = 60.0
CALM_AFTER_S: Final = 300.0
"""After so long without a halt the next pause is the shortest again."""

STOP_LIMIT_S: Final = 30.0

_log: Final = logging.getLogger(__name__)


@asynccontextmanager
async def subscribed(new_subscriber: Callable[[], LedgerSubscriber]) -> AsyncIterator[None]:
    """Handle events while the block runs. The block does not wait for Kafka."""
    task = asyncio.create_task(_keep_subscribed(new_subscriber))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task], timeout=STOP_LIMIT_S)


async def _keep_subscribed(new_subscriber: Callable[[], LedgerSubscriber]) -> None:
    loop = asyncio.get_running_loop()
    pause_s = RESTART_PAUSE_FIRST_S
    while True:
        started = loop.time()
        try:
            async with new_subscriber() as subscriber:
                halted = await subscriber.wait_halted()
                _log.error("%s", halted)
        except Exception:  # whatever it is: the routes go on without it, and the next try may work
            _log.exception("ledger events are not handled now")
        if loop.time() - started > CALM_AFTER_S:
            pause_s = RESTART_PAUSE_FIRST_S
        _log.warning("ledger events are handled again in %g s", pause_s)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, RESTART_PAUSE_MAX_S)
