"""The reader of the ledger's answers that all `submit` calls of a client share."""

import asyncio
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from ledger.broker.protocol import BrokerUnavailableError
from ledger.broker.tail_reader import AwaitedOutcome, TailReadError, TooManyWaitersError
from producers.errors import KafkaUnavailable


class Tail(Protocol):
    """What of `TailReader` is needed here."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    def register(self, app: str, owner_id: str, command_id: UUID) -> AwaitedOutcome: ...


class OutcomeFollower:
    """Registers waiters for outcomes."""

    def __init__(self, app: str, make_tail: Callable[[], Tail]) -> None:
        self._app = app
        self._make_tail = make_tail
        self._tail: Tail | None = None
        # Two first calls at once must share one reader, and keep their order: the lock is fair.
        self._turn = asyncio.Lock()
        self._closed = False

    async def follow(self, limit_s: float) -> None:
        """Read the answers from now on.

        Raises:
            KafkaUnavailable: not within the limit.
        """
        if self._tail is not None:
            return
        try:
            async with asyncio.timeout(limit_s), self._turn:
                if self._tail is None and not self._closed:
                    await self._open()
        except TimeoutError as error:
            raise KafkaUnavailable(
                f"the ledger's answers cannot be read: Kafka did not answer in {limit_s:g} s"
            ) from error

    async def register(self, owner_id: str, command_id: UUID, limit_s: float) -> AwaitedOutcome:
        """The event of this command, when it comes; publish after this. Cancel it to stop waiting.

        The future raises TailReadError when events may have passed unseen: register again and send the command again.

        Raises:
            KafkaUnavailable: the answers cannot be read within the limit.
        """
        for _ in range(2):  # a reader that has come to its end is replaced once
            await self.follow(limit_s)
            if self._tail is None:
                break
            try:
                return self._tail.register(self._app, owner_id, command_id)
            except TailReadError:
                await self._drop()
            except TooManyWaitersError as error:
                raise KafkaUnavailable(str(error)) from error
        raise KafkaUnavailable("the ledger's answers cannot be read: the client is closed, or the reader ended")

    async def _drop(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            await tail.stop()

    async def close(self) -> None:
        """Stop reading; whoever still waits is told."""
        self._closed = True
        await self._drop()

    async def _open(self) -> None:
        tail = self._make_tail()
        try:
            await tail.start()
        except BrokerUnavailableError as error:
            raise KafkaUnavailable(f"the ledger's answers cannot be read: {error}") from error
        except asyncio.CancelledError:
            await tail.stop()
            raise
        self._tail = tail
