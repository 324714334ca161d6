"""Saying that a server is away: once, and again after a while, so that a log is neither silent nor full of it."""

import asyncio
from typing import Final

import structlog

from ledger.event_store.protocol import ForeignLedgerError

SAY_AWAY_AGAIN_S: Final = 60.0
"""What stays away, or goes on refusing to let us in, is spoken of again after so long."""

log: Final = structlog.get_logger("ledger.consumer")


class Away:
    """What is away now, as far as it was said."""

    def __init__(self) -> None:
        self.because: str | None = None
        """What was said last; None while all answer."""
        self._say_again_at = 0.0

    def say(self, error: Exception) -> None:
        """A server is away."""
        now = asyncio.get_running_loop().time()
        if self.because != str(error) or now >= self._say_again_at:
            self.because = str(error)
            self._say_again_at = now + SAY_AWAY_AGAIN_S
            say = log.error if isinstance(error, ForeignLedgerError) else log.warning
            say("waiting: a server is away", error=str(error))

    def say_back(self) -> None:
        """All answer again."""
        if self.because is not None:
            self.because = None
            log.info("the servers are back")
