"""A publisher that is opened again whenever it has come to its end.

A failed send ends an idempotent producer (FACTS: later batches may already be in the log), so every failure wants a
new one; meanwhile calls under way on the old one are allowed to finish.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from ledger.broker.protocol import BrokerUnavailableError, OutgoingRecord, Publisher, PublishError

OPEN_LIMIT_S: Final = 15.0
"""An attempt to connect that has not ended by then is given up."""

REOPEN_PAUSE_FIRST_S: Final = 0.1
REOPEN_PAUSE_MAX_S: Final = 2.0

_log: Final = logging.getLogger(__name__)


class ReopeningPublisher:
    """Publishes through the current publisher; replaces it when it fails."""

    def __init__(self, make_publisher: Callable[[], Publisher]) -> None:
        self._make_publisher = make_publisher
        self._current: Publisher | None = None
        self._ready = asyncio.Event()
        self._opening: asyncio.Task[None] | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._under_way: dict[int, int] = {}
        self._last_trouble = "Kafka has not answered yet"

    @property
    def trouble(self) -> str | None:
        """What keeps the publisher from being open; None while it is."""
        return None if self._ready.is_set() else self._last_trouble

    def start(self) -> None:
        """Begin to connect; `ready` waits for it."""
        self._open_again()

    async def ready(self) -> None:
        """Return when a publisher is open: as long as Kafka is away, not at all."""
        while self._current is None:  # it can have ended again before the waiter runs
            await self._ready.wait()

    async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
        """Publish through the open publisher; call `ready` before. Returns the offset of the first record.

        Raises:
            PublishError: the records are in the log, or not.
        """
        publisher = self._current
        if publisher is None:
            raise PublishError("the publisher is not open")
        name = id(publisher)
        self._under_way[name] = self._under_way.get(name, 0) + 1
        try:
            return await publisher.publish(topic, partition, records)
        except Exception as error:  # whatever it was: these records are in doubt, and this publisher is at its end
            if self._current is publisher:
                self._last_trouble = str(error) or type(error).__name__
                self._current = None
                self._ready.clear()
                self._open_again()
            if isinstance(error, PublishError):
                raise
            raise PublishError(f"{type(error).__name__}: {error}") from error
        finally:
            self._under_way[name] -= 1
            if not self._under_way[name]:
                del self._under_way[name]
                if self._current is not publisher:
                    self._stop_in_background(publisher)

    async def stop(self) -> None:
        """Disconnect; never raises."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait({self._opening})
        publisher, self._current = self._current, None
        self._ready.clear()
        if publisher is not None:
            self._stop_in_background(publisher)
        while self._stopping:
            await asyncio.wait(self._stopping)

    def _open_again(self) -> None:
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        pause = REOPEN_PAUSE_FIRST_S
        while True:
            publisher = self._make_publisher()
            try:
                async with asyncio.timeout(OPEN_LIMIT_S):
                    await publisher.start()
            except (BrokerUnavailableError, TimeoutError) as error:
                self._last_trouble = str(error) or f"Kafka did not answer within {OPEN_LIMIT_S:g} s"
                _log.warning("Kafka is away (%s); trying again", self._last_trouble)
                self._stop_in_background(publisher)
            except asyncio.CancelledError:
                self._stop_in_background(publisher)
                raise
            else:
                self._current = publisher
                self._ready.set()
                return
            # Jitter: the clients of an app must not come back all at once.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, REOPEN_PAUSE_MAX_S)

    def _stop_in_background(self, publisher: Publisher) -> None:
        # Stopping one that failed can take until its own limit; nobody shall wait for that before the next is open.
        task = asyncio.create_task(publisher.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)
