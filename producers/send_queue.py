"""The ordered queue between callers and Kafka: first in, first published, in batches when there is a crowd.

Order (invariant 4): one list per partition, filled in the order of the calls, emptied by one task that has at most one
batch unacknowledged. So of two publications made one after another, the second gets the higher offset unless one fails.
"""

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from ledger.broker.protocol import OutgoingRecord, PublishError
from producers.command_request import PreparedCommand
from producers.errors import ClientClosed, LedgerError, NotPublished, PublishInDoubt
from producers.outcome import Published
from producers.reopening_publisher import ReopeningPublisher

BUFFERED_RECORDS_MAX: Final = 10_000
"""Commands that wait for Kafka; a caller who comes then waits for room: that is the back-pressure."""

BATCH_RECORDS_MAX: Final = 500
BATCH_BYTES_MAX: Final = 128 * 1024
"""Keys and values of one batch: below a producer's batch size, so that a batch is one append with offsets in a row."""

GATHER_S: Final = 0.002
"""The least time between two departures, over all partitions. Whoever comes first leaves at once; whoever comes within
this time after it leaves with all others who do: a request to a broker costs as much as fifty commands in it."""


class Sending:
    """One command on its way to Kafka. `done` gives its place, or raises NotPublished or PublishInDoubt."""

    __slots__ = ("done", "handed_over", "prepared", "timer")

    def __init__(self, prepared: PreparedCommand, done: "asyncio.Future[Published]") -> None:
        self.prepared = prepared
        self.done = done
        self.handed_over = False
        self.timer: asyncio.TimerHandle | None = None


class SendQueue:
    """Publishes commands to one topic. Used from one event loop."""

    def __init__(self, topic: str, publisher: ReopeningPublisher, partitions: int) -> None:
        self._topic = topic
        self._publisher = publisher
        self._waiting: list[OrderedDict[Sending, None]] = [OrderedDict() for _ in range(partitions)]
        self._filled = [asyncio.Event() for _ in range(partitions)]
        self._senders = [asyncio.create_task(self._send(partition)) for partition in range(partitions)]
        self._buffered = 0
        self._turn = asyncio.Lock()
        self._room = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._unfinished = 0
        self._closed = False
        self._next_departure = 0.0

    async def put(self, commands: Sequence[PreparedCommand], wait_s: float) -> list[Sending]:
        """Queue the commands in this order, behind all that were queued before; waits for room in the buffer.

        `wait_s` bounds, for each command, the wait for room and then the way to Kafka; its `done` raises after that.
        """
        loop = asyncio.get_running_loop()
        sendings: list[Sending] = []
        try:
            # The lock is fair: whoever called first fills the buffer first, even when many wait for room.
            async with self._turn:
                for prepared in commands:
                    sending = Sending(prepared, loop.create_future())
                    sendings.append(sending)
                    if self._buffered >= BUFFERED_RECORDS_MAX and not await self._wait_for_room(wait_s):
                        why = f"the buffer stayed full for {wait_s:g} s"
                        sending.done.set_exception(_not_published(sending, why))
                    elif self._closed:
                        sending.done.set_exception(ClientClosed("the client was closed while the command waited"))
                    else:
                        self._append(sending, loop.time() + wait_s)
        except asyncio.CancelledError:
            for sending in sendings:
                self.withdraw(sending)
            raise
        return sendings

    def withdraw(self, sending: Sending) -> None:
        """Give the command up: if it was not handed over to Kafka yet, it never will be. `done` is cancelled."""
        sending.done.cancel()
        waiting = self._waiting[sending.prepared.partition]
        if sending in waiting:
            del waiting[sending]
            self._leave_buffer(1)
            self._finish(sending, _not_published(sending, "it was withdrawn"))

    async def close(self, limit_s: float) -> None:
        """Publish what waits, within the limit; what is left then fails with NotPublished or PublishInDoubt."""
        self._closed = True
        self._room.set()
        with contextlib.suppress(TimeoutError):  # whoever still waits then is told below
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        for sender in self._senders:
            sender.cancel()
        await asyncio.wait(self._senders)
        for waiting in self._waiting:
            for sending in waiting:
                self._finish(sending, _not_published(sending, "the client was closed"))
            waiting.clear()

    def _append(self, sending: Sending, deadline: float) -> None:
        partition = sending.prepared.partition
        self._buffered += 1
        self._unfinished += 1
        self._idle.clear()
        sending.timer = asyncio.get_running_loop().call_at(deadline, self._expire, sending)
        self._waiting[partition][sending] = None
        self._filled[partition].set()

    async def _wait_for_room(self, wait_s: float) -> bool:
        try:
            async with asyncio.timeout(wait_s):
                while self._buffered >= BUFFERED_RECORDS_MAX and not self._closed:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            return False
        return True

    def _leave_buffer(self, records: int) -> None:
        self._buffered -= records
        self._room.set()

    async def _send(self, partition: int) -> None:
        waiting, filled = self._waiting[partition], self._filled[partition]
        while True:
            await filled.wait()
            await self._publisher.ready()
            await self._departure()
            batch = self._take(waiting)
            if not waiting:
                filled.clear()
            if batch:
                await self._publish(partition, batch)

    async def _departure(self) -> None:
        loop = asyncio.get_running_loop()
        wait_s = self._next_departure - loop.time()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        now = loop.time()
        if now >= self._next_departure:
            self._next_departure = now + GATHER_S

    def _take(self, waiting: OrderedDict[Sending, None]) -> list[Sending]:
        batch: list[Sending] = []
        size = 0
        while waiting and len(batch) < BATCH_RECORDS_MAX:
            sending = next(iter(waiting))
            size += _bytes(sending.prepared.record)
            if batch and size > BATCH_BYTES_MAX:
                break
            del waiting[sending]
            sending.handed_over = True
            batch.append(sending)
        self._leave_buffer(len(batch))
        return batch

    async def _publish(self, partition: int, batch: list[Sending]) -> None:
        try:
            first = await self._publisher.publish(
                self._topic, partition, [sending.prepared.record for sending in batch]
            )
        except PublishError as error:
            for sending in batch:
                self._finish(sending, _in_doubt(sending, str(error)))
        except asyncio.CancelledError:
            for sending in batch:
                self._finish(sending, _in_doubt(sending, "the client was closed before Kafka had acknowledged it"))
            raise
        else:
            for offset, sending in enumerate(batch, first):
                command_id = sending.prepared.command.command_id
                self._finish(sending, Published(command_id, self._topic, partition, offset))

    def _expire(self, sending: Sending) -> None:
        if sending.done.done():
            return
        if sending.handed_over:
            # The batch goes on without this caller; `_finish` finds the future done.
            sending.done.set_exception(_in_doubt(sending, "Kafka did not acknowledge it in time"))
            return
        del self._waiting[sending.prepared.partition][sending]
        self._leave_buffer(1)
        self._finish(sending, _not_published(sending, self._publisher.trouble or "Kafka was too slow"))

    def _finish(self, sending: Sending, result: Published | LedgerError) -> None:
        if sending.timer is not None:
            sending.timer.cancel()
        if not sending.done.done():
            if isinstance(result, Published):
                sending.done.set_result(result)
            else:
                sending.done.set_exception(result)
        self._unfinished -= 1
        if not self._unfinished:
            self._idle.set()


def _bytes(record: OutgoingRecord) -> int:
    return len(record.key) + len(record.value)


def _in_doubt(sending: Sending, why: str) -> PublishInDoubt:
    return PublishInDoubt(sending.prepared.command.command_id, why)


def _not_published(sending: Sending, why: str) -> NotPublished:
    return NotPublished(sending.prepared.command.command_id, why)
