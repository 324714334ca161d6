"""Giving one event to its handlers: attempts, back-off, limits, and being interrupted."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from consumers.subscriber.errors import HandlingFailedError, InterruptedDeliveryError
from consumers.subscriber.handlers import Route
from ledger.domain.event import RecordedEvent

ERROR_CHARACTERS_MAX: Final = 2_000
"""How much of an exception's text is kept with a parked event."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a failing handler is tried. All times in seconds."""

    attempts: int = 5
    attempt_limit_s: float = 10.0
    """An attempt that takes longer is cancelled and counts as failed."""
    first_backoff_s: float = 0.2
    backoff_max_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.attempt_limit_s <= 0 or self.first_backoff_s < 0 or self.backoff_max_s < 0:
            raise ValueError(f"not a policy of retries: {self}")

    def backoff_s(self, failed_attempts: int) -> float:
        """The wait after so many failed attempts: doubled each time, up to the largest."""
        return float(min(self.first_backoff_s * 2 ** (failed_attempts - 1), self.backoff_max_s))

    @property
    def worst_case_s(self) -> float:
        """The longest that one event can take."""
        return self.attempts * self.attempt_limit_s + sum(self.backoff_s(n) for n in range(1, self.attempts))


class Delivery:
    """Calls handlers, one at a time."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._interrupted = asyncio.Event()
        self._interruptions = 0
        self._attempt: asyncio.Task[None] | None = None

    @property
    def interrupted(self) -> bool:
        """Whether nothing new may be begun."""
        return self._interrupted.is_set()

    def interrupt(self) -> None:
        """Begin no further attempt; the one in hand may finish."""
        self._interrupted.set()
        self._interruptions += 1

    def go_on(self) -> None:
        """Take up work again after `interrupt`."""
        self._interrupted.clear()

    def abandon(self) -> None:
        """Cancel the attempt in hand: its partition belongs to somebody else by now, who begins the same event."""
        self.interrupt()
        if self._attempt is not None:
            self._attempt.cancel()

    async def deliver(self, routes: Sequence[Route], event: RecordedEvent) -> None:
        """Call each handler until all have succeeded. The limits hold for all of them together, and one that has
        succeeded is not called again when a later one fails.

        Raises:
            HandlingFailedError: one of them failed in the last attempt.
            InterruptedDeliveryError: there was no time to find out.
        """
        waiting = list(routes)
        failure: BaseException | None = None
        # Counted, as work may be taken up again before a handler that did not let itself be cancelled comes back here.
        interruptions = self._interruptions
        for attempt in range(1, self._policy.attempts + 1):
            if not self.interrupted and self._interruptions == interruptions:
                failure = await self._try(waiting, event)
                if failure is None:
                    return
            if self.interrupted or self._interruptions != interruptions:
                # Whether it failed by itself or was abandoned: the event begins anew with whoever comes next.
                raise InterruptedDeliveryError(f"event {event.position} was not finished by {waiting[0].name}")
            _log.warning(
                "%s failed on event %s, attempt %d of %d: %r",
                waiting[0].name,
                event.position,
                attempt,
                self._policy.attempts,
                failure,
                exc_info=failure if attempt == self._policy.attempts else None,
            )
            if attempt < self._policy.attempts:
                await self._back_off(self._policy.backoff_s(attempt))
        raise HandlingFailedError(
            waiting[0].name, self._policy.attempts, repr(failure)[:ERROR_CHARACTERS_MAX]
        ) from failure

    async def _try(self, waiting: list[Route], event: RecordedEvent) -> BaseException | None:
        """One attempt; what it failed with, or None."""
        # A task of its own, so that abandoning it does not end the loop that reads from Kafka.
        self._attempt = attempt = asyncio.ensure_future(_call_all(waiting, event))
        try:
            done, _ = await asyncio.wait({attempt}, timeout=self._policy.attempt_limit_s)
            if not done:
                attempt.cancel()
                await asyncio.wait({attempt})
        finally:
            # If we are being cancelled ourselves, the handler must not run on alone.
            attempt.cancel()
            self._attempt = None
        if attempt.cancelled():
            return TimeoutError(f"cancelled: the limit of an attempt is {self._policy.attempt_limit_s:g} s")
        return attempt.exception()

    async def _back_off(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._interrupted.wait()
        except TimeoutError:
            pass


async def _call_all(waiting: list[Route], event: RecordedEvent) -> None:
    """Call the first until none is left."""
    while waiting:
        await waiting[0].handler(event)
        del waiting[0]
