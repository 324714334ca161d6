"""The keys that open, in memory: what is made or revoked is known within seconds, and no request waits for it."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from types import TracebackType
from typing import Final, Protocol, Self

from ledger.api_keys.secret import PresentedKey
from ledger.api_keys.store import DoorKey, DoorKeys

REFRESH_EVERY_S: Final = 2.0
REVOKED_WITHIN_S: Final = 5
"""A revoked key opens nothing any more after so long, while Postgres answers: two rounds of reading at the least."""

READ_LIMIT_S: Final = 2.5
"""How long one reading of the keys may take."""

REREAD_AFTER_S: Final = 0.5
"""For an unknown key, which may have been made a moment ago, the keys are read again: not more often than this."""

VALID_WITHOUT_POSTGRES_S: Final = 60
"""So long known keys open while Postgres does not answer; then every request is refused with 503."""

USES_NOTED_EVERY_S: Final = 60.0

_log: Final = logging.getLogger(__name__)


class KeysUnavailableError(Exception):
    """Where the keys are kept does not answer."""


class KeysUnknownError(Exception):
    """It cannot be told now who may come in."""


class KeySource(Protocol):
    """Where the keys are kept."""

    async def read(self) -> DoorKeys:
        """All usable keys. Raises KeysUnavailableError."""

    async def note_used(self, key_ids: Collection[str]) -> None:
        """These keys were used lately. Raises KeysUnavailableError."""

    async def close(self) -> None:
        """End the connection."""


class KeyRing:
    """Knows the usable keys; `async with` keeps them fresh."""

    def __init__(
        self,
        source: KeySource,
        *,
        open_to: str = "nobody",
        now: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """No I/O.

        Args:
            source: where the keys are kept.
            open_to: who may come in while no key has ever been made, for the log.
            now: a clock that never goes back, in seconds.
            today: tells when a key expires.
        """
        self._open_to = open_to
        self._source = source
        self._now = now
        self._today = today
        self._keys: dict[str, DoorKey] = {}
        self._begun_at: float | None = None
        """When the last reading that succeeded began."""
        self._tried_at: float | None = None
        self._any_made: bool | None = None
        self._reading: asyncio.Task[None] | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        self._used: set[str] = set()
        self._uses_noted_at = now()

    async def __aenter__(self) -> Self:
        """Begin to read; does not wait for Postgres."""
        self._keeper = asyncio.create_task(self._keep_fresh(), name="API keys")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Note the last uses, within a limit, and stop reading."""
        for task in (self._keeper, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._uses_noted_at = float("-inf")
        await self._note_uses()
        await self._source.close()

    @property
    def asks(self) -> bool | None:
        """Whether there has ever been a key; None while that is not known. Once it is so it stays so."""
        return self._any_made

    @property
    def trouble(self) -> str | None:
        """Why the keys could not be read lately, or None."""
        return self._trouble

    async def asks_for_keys(self) -> bool:
        """The same, read now if it is not known.

        Raises:
            KeysUnknownError: it was never told yet.
        """
        if self._any_made is None:
            await self._read_again()
        if self._any_made is None:
            raise KeysUnknownError(self._trouble)
        return self._any_made

    def known(self, presented: PresentedKey) -> DoorKey | None:
        """The key that was shown, if it is known to open now; does no I/O."""
        if self._begun_at is None or self._now() - self._begun_at > VALID_WITHOUT_POSTGRES_S:
            return None
        return self._found(presented)

    async def find(self, presented: PresentedKey) -> DoorKey | None:
        """The same, but for a key that is not known the keys are read again first: it may be new.

        Raises:
            KeysUnknownError: that cannot be told, because Postgres does not answer.
        """
        if self._tried_at is not None:
            await asyncio.sleep(self._tried_at + REREAD_AFTER_S - self._now())
        await self._read_again()
        if self._trouble is not None:
            raise KeysUnknownError(self._trouble)
        return self._found(presented)

    def _found(self, presented: PresentedKey) -> DoorKey | None:
        key = self._keys.get(presented.id)
        # Of an id that nobody has the digest is compared as well, with one that no key has: the same work and time.
        fits = presented.is_that_of(bytes(32) if key is None else key.digest)
        if key is None or not fits or (key.expires_at is not None and self._today() >= key.expires_at):
            return None
        self._used.add(key.id)
        return key

    async def _keep_fresh(self) -> None:
        while True:
            await self._read_again()
            await self._note_uses()
            await asyncio.sleep(REFRESH_EVERY_S)

    async def _read_again(self) -> None:
        # One reading for all who wait for one; a caller who goes away does not end it for the others.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        begun_at = self._tried_at = self._now()
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                found = await self._source.read()
        except (KeysUnavailableError, TimeoutError) as error:
            trouble = str(error) or f"Postgres did not answer in {READ_LIMIT_S:g} s"
            if self._trouble is None:
                _log.warning("API keys cannot be read: %s", trouble)
            self._trouble = trouble
            return
        self._trouble = None
        self._begun_at = begun_at
        self._keys = {key.id: key for key in found.usable}
        self._learn(found.any_made)

    def _learn(self, any_made: bool) -> None:
        if self._any_made is None and not any_made:
            _log.warning(
                "no API key has ever been made: HTTP is open to %s; `ledger keys create` makes the first", self._open_to
            )
        if any_made and not self._any_made:
            _log.info("API keys are asked for")
        self._any_made = bool(self._any_made) or any_made  # whoever empties the table does not open the doors

    async def _note_uses(self) -> None:
        if not self._used or self._now() - self._uses_noted_at < USES_NOTED_EVERY_S:
            return
        used, self._used = self._used, set()
        self._uses_noted_at = self._now()
        with contextlib.suppress(KeysUnavailableError, TimeoutError):  # it is a hint for people, and coarse anyway
            async with asyncio.timeout(READ_LIMIT_S):
                await self._source.note_used(used)
