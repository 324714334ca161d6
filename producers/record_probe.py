"""Whether the record answers: a write is refused with 503 rather than published for an outcome that cannot come now."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from ledger.event_store.protocol import StoreUnavailableError

FRESH_S: Final = 1.0
"""For how long an answer counts: under load the record is asked once a second, not once a write."""


class RecordProbe:
    """Remembers whether the record answered a moment ago."""

    def __init__(self, ask: Callable[[], Awaitable[object]]) -> None:
        """`ask` asks the record anything, and raises StoreUnavailableError when it is away."""
        self._ask = ask
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self._trouble: str | None = None

    async def trouble(self) -> str | None:
        """Why the record is away, or None."""
        async with self._asking:
            now = asyncio.get_running_loop().time()
            if self._asked_at is None or now - self._asked_at >= FRESH_S:
                try:
                    await self._ask()
                    self._trouble = None
                except StoreUnavailableError as error:
                    self._trouble = str(error)
                self._asked_at = asyncio.get_running_loop().time()
        return self._trouble
