"""Waiting for the outcome of a command: the ends of `ledger.events` and `ledger.replays`, read for whoever waits."""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from ledger.broker.protocol import (
    BrokerUnavailableError,
    OffsetOutOfRangeError,
    Record,
    RecordReader,
    TopicPartition,
)
from ledger.domain.event import RecordedEvent
from ledger.messages.event_codec import UnreadableEventError, decode_event
from ledger.messages.topics import Topics

WAITERS_MAX: Final = 100_000
POLL_RECORDS_MAX: Final = 5_000
POLL_WAIT_S: Final = 1.0
BACKOFF_MIN_S: Final = 0.1
BACKOFF_MAX_S: Final = 2.0

_log = logging.getLogger(__name__)

_Wanted = tuple[str, UUID]
"""App and command id; the owner is the record's key."""


class TooManyWaitersError(Exception):
    """WAITERS_MAX outcomes are waited for already. Try again when some have come."""


class TailReadError(Exception):
    """The topics cannot be read on from where they were: events may have passed unseen. The outcome is unknown."""


class AwaitedOutcome(asyncio.Future[RecordedEvent]):
    """The event of one command, when it comes; cancel it to stop waiting."""

    replayed = False
    """Whether the event came on `ledger.replays`: the command had been decided for an earlier copy."""


class TailReader:
    """Reads both topics of all partitions from their ends on and hands every event to those who wait for it.

    Records of owners for whom nobody waits are passed over without being decoded. The reader belongs to it: it is
    started and stopped here.
    """

    def __init__(self, reader: RecordReader, topics: Topics, partitions: int) -> None:
        self._reader = reader
        self._replays = topics.replays
        self._topic_partitions = [
            TopicPartition(topic, partition)
            for topic in (topics.events, topics.replays)
            for partition in range(partitions)
        ]
        self._waiting: dict[bytes, dict[_Wanted, list[AwaitedOutcome]]] = {}
        """By the record's key, the owner id in UTF-8."""
        self._waiters = 0
        self._reading: asyncio.Task[None] | None = None
        self._ended: TailReadError | None = TailReadError("the tail reader is not started")

    async def start(self) -> None:
        """Fix the end positions on both topics, then read on from them. Raises BrokerUnavailableError.

        An event that is published after this has returned is seen by every waiter registered before.
        """
        await self._reader.start()
        try:
            await self._begin_at_ends()
        except BrokerUnavailableError:
            await self._reader.stop()
            raise
        self._ended = None
        self._reading = asyncio.create_task(self._read_on())

    async def stop(self) -> None:
        """Stop reading; whoever still waits gets a TailReadError. Never raises."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        self._end(TailReadError("the tail reader was stopped"))
        await self._reader.stop()

    @property
    def waiters(self) -> int:
        """How many outcomes are waited for."""
        return self._waiters

    def register(self, app: str, owner_id: str, command_id: UUID) -> AwaitedOutcome:
        """The event of this command, when it comes. Register before publishing; cancel the future to stop waiting.

        The future raises TailReadError when reading cannot go on without a gap.

        Raises:
            TooManyWaitersError: see WAITERS_MAX.
            TailReadError: not started, or stopped.
        """
        if self._ended is not None:
            raise self._ended
        if self._waiters >= WAITERS_MAX:
            raise TooManyWaitersError(f"{WAITERS_MAX} outcomes are waited for already")
        future = AwaitedOutcome(loop=asyncio.get_running_loop())
        key = owner_id.encode("utf-8", "surrogatepass")
        wanted = (app, command_id)
        self._waiting.setdefault(key, {}).setdefault(wanted, []).append(future)
        self._waiters += 1
        future.add_done_callback(lambda done: self._forget(key, wanted, done))
        return future

    def _forget(self, key: bytes, wanted: _Wanted, future: asyncio.Future[RecordedEvent]) -> None:
        self._waiters -= 1
        of_owner = self._waiting.get(key, {})
        futures = of_owner.get(wanted, [])
        if future in futures:
            futures.remove(future)
        if not futures:
            of_owner.pop(wanted, None)
        if not of_owner:
            self._waiting.pop(key, None)

    async def _begin_at_ends(self) -> None:
        bounds = await self._reader.bounds(self._topic_partitions)
        self._reader.assign(
            {topic_partition: bounds[topic_partition].end for topic_partition in self._topic_partitions}
        )

    async def _read_on(self) -> None:
        backoff_s = BACKOFF_MIN_S
        lost: OffsetOutOfRangeError | None = None
        while True:
            try:
                if lost is not None:
                    await self._begin_at_ends()
                    # No await since the new ends were fixed: whoever registers from here on misses nothing.
                    self._fail_waiters(TailReadError(f"events may have passed unseen: {lost}"))
                    lost = None
                self._deliver(await self._reader.poll(POLL_RECORDS_MAX, POLL_WAIT_S))
                backoff_s = BACKOFF_MIN_S
            except OffsetOutOfRangeError as error:
                lost = error
            except BrokerUnavailableError as error:
                _log.warning("outcomes cannot be read, trying again: %s", error)
                await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 jitter, no secret
                backoff_s = min(2 * backoff_s, BACKOFF_MAX_S)
            except Exception as error:  # whatever it is, those who wait must hear of it rather than wait in vain
                _log.exception("reading of outcomes has ended")
                self._end(TailReadError(f"reading has ended: {error!r}"))
                return

    def _deliver(self, records: Sequence[Record]) -> None:
        waiting = self._waiting
        for record in records:
            if record.key not in waiting:
                continue
            try:
                event = decode_event(record.value)
            except UnreadableEventError as error:
                _log.error("%s[%s] at %s: %s", record.topic, record.partition, record.offset, error)
                continue
            # Copied: a done future is taken out of the list by its callback.
            for future in list(waiting[record.key].get((event.app, event.command_id), ())):
                if not future.done():
                    future.replayed = record.topic == self._replays
                    future.set_result(event)

    def _end(self, error: TailReadError) -> None:
        self._ended = error
        self._fail_waiters(error)

    def _fail_waiters(self, error: TailReadError) -> None:
        for of_owner in self._waiting.values():
            for futures in of_owner.values():
                for future in futures:
                    if not future.done():
                        future.set_exception(error)
