"""Waiting for the outcome of a command that is on its way, and sending it again while no answer comes."""

import asyncio
import contextlib
from typing import Final

from ledger.broker.tail_reader import AwaitedOutcome, TailReadError
from producers.command_request import PreparedCommand
from producers.errors import ClientClosed, KafkaUnavailable, OutcomeUnknown, PublishInDoubt, rejection
from producers.outcome import Outcome, Published
from producers.outcome_follower import OutcomeFollower
from producers.send_queue import Sending, SendQueue

RESEND_AFTER_FIRST_S: Final = 1.0
"""Pause before the same bytes are sent again; it doubles each time."""


class OutcomeWait:
    """The wait of one command. Make it, `register`, put the command into the queue, then await `outcome`."""

    def __init__(self, queue: SendQueue, follower: OutcomeFollower, prepared: PreparedCommand, limit_s: float) -> None:
        """`limit_s` counts from when `outcome` is called."""
        self.prepared: Final = prepared
        self._queue = queue
        self._follower = follower
        self._limit_s = limit_s
        self._answer: AwaitedOutcome | None = None
        self._place: Published | None = None
        """Where the first copy lies that was acknowledged."""
        self._doubt: PublishInDoubt | None = None
        """A copy that was perhaps published."""

    async def register(self) -> None:
        """Wait for the answer from now on. Before the first publish, so that no answer can pass unseen.

        Raises:
            KafkaUnavailable: the answers cannot be read.
        """
        command = self.prepared.command
        self._answer = await self._follower.register(command.owner_id, command.command_id, self._limit_s)

    def abandon(self) -> None:
        """Wait no longer."""
        if self._answer is not None:
            self._answer.cancel()

    async def outcome(self, sending: Sending) -> Outcome:
        """Wait for the answer; while none comes send the same bytes again after 1, 2, 4 ... seconds.

        An answer can be lost: the ledger publishes replays without storing them, and a publication can fail in doubt. A
        copy costs nothing but a replay, because the ledger decides a command id once.

        Raises:
            CommandRejected, NotPublished, ClientClosed, OutcomeUnknown, PublishInDoubt: see `LedgerClient.submit`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._limit_s
        pause = RESEND_AFTER_FIRST_S
        try:
            while True:
                await self._acknowledged(sending)
                outcome = await self._answered(max(0.0, min(pause, deadline - loop.time())))
                if outcome is not None:
                    if outcome.event.accepted:
                        return outcome
                    raise rejection(outcome.event, replayed=outcome.replayed)
                left_s = deadline - loop.time()
                if left_s <= 0:
                    raise self._unknown("the ledger did not answer in time")
                if self._answer is None:
                    await self._register_again()
                pause *= 2
                [sending] = await self._queue.put([self.prepared], left_s)
        finally:
            self.abandon()
            self._queue.withdraw(sending)

    async def _acknowledged(self, sending: Sending) -> None:
        """Return when this copy was acknowledged or is in doubt, or the answer is there. Raises when no copy was ever
        sent. It ends: the queue gives up a copy in time."""
        if not sending.done.done():
            either = (sending.done,) if self._answer is None else (sending.done, self._answer)
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not sending.done.done():
            return
        error = sending.done.exception()
        if error is None:
            self._place = self._place or sending.done.result()
        elif isinstance(error, PublishInDoubt):
            self._doubt = error
        elif self._place is None and self._doubt is None:
            raise error
        elif isinstance(error, ClientClosed):
            raise self._unknown(str(error)) from error
        # Otherwise this copy was not sent, but an earlier one was: its answer can still come.

    async def _answered(self, limit_s: float) -> Outcome | None:
        """The answer, if it comes within the limit."""
        if self._answer is None:
            await asyncio.sleep(limit_s)
            return None
        await asyncio.wait((self._answer,), timeout=limit_s)
        if not self._answer.done():
            return None
        try:
            return Outcome(self._answer.result(), self._answer.replayed)
        except TailReadError:
            # The answer may have passed unseen. The next copy brings it again.
            self._answer = None
            return None

    async def _register_again(self) -> None:
        # When it fails, there is no answer to this copy, but perhaps to the next.
        with contextlib.suppress(KafkaUnavailable):
            await self.register()

    def _unknown(self, why: str) -> OutcomeUnknown:
        command_id = self.prepared.command.command_id
        if self._place is None and self._doubt is not None:
            return PublishInDoubt(command_id, self._doubt.why)
        return OutcomeUnknown(command_id, why, self._place)
