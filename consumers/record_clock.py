"""The time of events: the record's own clock, as its last answer gave it, plus the time since then."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

SKEW_ALARM_S: Final = 5.0
"""A difference between the record's clock and this machine's that raises an alarm."""

SKEW_LIMIT_S: Final = 300.0
"""A difference at which nothing more is decided, unless the setting says otherwise: nobody knows which of the clocks is
wrong, and by a wrong one `not_after` would be judged wrongly for ever."""


class RecordClock:
    """One clock for all ledger consumers, wherever they run: that of the database that they share."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._base = datetime.fromtimestamp(wall(), UTC)
        self._at = monotonic()

    def set(self, clock: datetime) -> float:
        """Take the record's clock; returns by how many seconds this machine's clock is ahead of it."""
        self._base = clock
        self._at = self._monotonic()
        return self._wall() - clock.timestamp()

    def now(self) -> datetime:
        """The record's time, in UTC."""
        return self._base + timedelta(seconds=self._monotonic() - self._at)
