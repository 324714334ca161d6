"""One partition as a subscriber works on it: each event in its turn is dropped, passed over, handled or parked.

Nothing here knows Kafka: the same lanes run on the real topics and in an app's unit tests.
"""

import logging
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Final

from consumers.subscriber.delivery import Delivery
from consumers.subscriber.errors import HandlingFailedError, SubscriberHaltedError
from consumers.subscriber.handlers import Handlers
from consumers.subscriber.parking import (
    Failed,
    Handled,
    Parked,
    ParkedOwner,
    ParkedPartition,
    ParkingLog,
    ParkingRecord,
)
from consumers.subscriber.sequence_guard import SequenceGuard, Verdict
from ledger.domain.event import RecordedEvent

PARKED_IN_A_ROW_MAX: Final = 20
"""When the handlers failed for so many events one after another, it is not the events: a database is away, say. Then
the partition is halted, before every owner is parked."""

_log: Final = logging.getLogger(__name__)


class Outcome(Enum):
    """What became of an event."""

    SEEN = "seen before, dropped"
    PASSED = "wanted by no handler"
    HANDLED = "handled"
    PARKED = "parked"


class Lane:
    """The state of one partition. Used by one task at a time."""

    def __init__(
        self,
        partition: int,
        *,
        group: str,
        guard: SequenceGuard,
        handlers: Handlers,
        delivery: Delivery,
        parked: ParkedPartition,
        parking_log: ParkingLog,
        park_failures: bool,
        now: Callable[[], datetime],
    ) -> None:
        self.partition = partition
        self.guard = guard
        self.parked = parked
        self._group = group
        self._handlers = handlers
        self._delivery = delivery
        self._parking_log = parking_log
        self._park_failures = park_failures
        self._now = now
        self._failed_in_a_row = 0
        self._own_offsets: set[int] = set()
        """Where our own records lie on the parked topic. They were applied when they were written."""

    async def take(self, event: RecordedEvent) -> Outcome:
        """Dispose of the event that comes next.

        Raises:
            DivergedError: it does not continue what was seen.
            SubscriberHaltedError: its handler failed and the app chose to halt then.
            InterruptedDeliveryError, ParkingUnavailableError: it was not disposed of and must be given again.
        """
        if self.guard.judge(event) is Verdict.SEEN:
            return Outcome.SEEN
        outcome = await self._dispose(event)
        self.guard.advance(event)
        return outcome

    async def _dispose(self, event: RecordedEvent) -> Outcome:
        routes = self._handlers.wanting(event)
        if not routes:
            return Outcome.PASSED
        if self.parked.knows(event.sequence):
            return Outcome.PARKED
        if self.parked.is_parked(event.owner_id):
            await self._write(Parked(self._group, event.owner_id, self._now(), event))
            return Outcome.PARKED
        try:
            await self._delivery.deliver(routes, event)
        except HandlingFailedError as failure:
            self._failed_in_a_row += 1
            if not self._park_failures or self._failed_in_a_row > PARKED_IN_A_ROW_MAX:
                raise SubscriberHaltedError(self.partition, self._why_halted(event, failure)) from failure
            await self._write(Parked(self._group, event.owner_id, self._now(), event, failure.error, failure.attempts))
            _log.error(
                "event %s is parked, and so are all later events of owner %r: %s. See `ledger parked list`",
                event.position,
                event.owner_id,
                failure,
            )
            return Outcome.PARKED
        self._failed_in_a_row = 0
        return Outcome.HANDLED

    def _why_halted(self, event: RecordedEvent, failure: HandlingFailedError) -> str:
        many = ""
        if self._park_failures:
            many = f" The {PARKED_IN_A_ROW_MAX} events before it that a handler tried failed too and are parked."
        return (
            f"event {event.position} of owner {event.owner_id!r}: {failure}.{many} Mend the cause and start again: the "
            "event comes first. Nothing of this partition is handled until then"
        )

    async def note(self, offset: int, record: ParkingRecord) -> None:
        """Take in a record of the parked topic that was read while events are being handled.

        Raises:
            ParkingUnavailableError: it must be given again.
        """
        if record.group != self._group:
            return
        if offset in self._own_offsets:
            self._own_offsets.discard(offset)
            return
        last = self.guard.last
        if (
            isinstance(record, Parked)
            and not self.parked.knows(record.event.sequence)
            and last is not None
            and record.event.sequence <= last.sequence
        ):
            # Race: a member that lost this partition without knowing it parks an event that we have handled since (or
            # our own append was in doubt, and the event was handled in the next attempt). We hold the partition and
            # know better: without this record the owner would be parked at the next start.
            await self._write(Handled(self._group, record.owner_id, self._now(), record.event.sequence))
            return
        self.parked.apply(record)

    async def release(self, may_go_on: Callable[[], bool]) -> bool:
        """Handle the parked events of the owners that somebody has released, each owner's in order.

        An owner's later events are parked behind the earlier ones until none is left, so the order holds.

        Returns:
            Whether none is left to release; False when `may_go_on` said no.

        Raises:
            InterruptedDeliveryError, ParkingUnavailableError: to be called again.
        """
        while (owner := self.parked.releasable()) is not None:
            if self._delivery.interrupted or not may_go_on():
                return False
            await self._release_first(owner)
        return True

    async def _release_first(self, owner: ParkedOwner) -> None:
        event = owner.first.event
        try:
            await self._delivery.deliver(self._handlers.wanting(event), event)
        except HandlingFailedError as failure:
            await self._write(
                Failed(self._group, owner.owner_id, self._now(), event.sequence, failure.error, failure.attempts)
            )
            _log.error("event %s failed again and stays parked: %s", event.position, failure)
        else:
            await self._write(Handled(self._group, owner.owner_id, self._now(), event.sequence))

    async def _write(self, record: ParkingRecord) -> None:
        self._own_offsets.add(await self._parking_log.append(self.partition, record))
        self.parked.apply(record)
