"""The notice board between a group membership and the loop that owns the work: what Membership promises of both."""

import asyncio
from collections.abc import Iterable
from typing import Final

LOOP_STALL_LIMIT_S: Final = 10.0
"""A member whose loop has not turned for this long leaves the group, so that another one does its work. Above the
longest honest turn: one transaction with its retries; backing off counts as turning."""

REVOKE_WAIT_LIMIT_S: Final = 4.0
"""How long a revocation waits for the batch in hand; below the time within which all members must have joined again
(the session timeout). A batch that takes longer is stopped by the fence."""


class AssignmentBoard:
    """Which partition numbers are wanted, whether a batch is in hand, when the loop last turned. Never blocks."""

    def __init__(self) -> None:
        self._wanted: frozenset[int] | None = None
        self._generation = 0
        self._assigned = asyncio.Event()
        """Set, and replaced by a new one, at every assignment."""
        self._no_batch_in_hand = asyncio.Event()
        self._no_batch_in_hand.set()
        self._turned = asyncio.Event()
        self._turned_at_s: float | None = None

    @property
    def wanted(self) -> frozenset[int] | None:
        """The partition numbers assigned now; None during a rebalance and before the first assignment."""
        return self._wanted

    @property
    def generation(self) -> int:
        """Rises with every assignment."""
        return self._generation

    async def changed(self, since_generation: int, timeout_s: float) -> None:
        """Return when the generation differs or the timeout has passed."""
        if self._generation != since_generation:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await self._assigned.wait()
        except TimeoutError:
            return

    def turned(self) -> None:
        """The loop has turned."""
        self._turned_at_s = asyncio.get_running_loop().time()
        self._turned.set()

    def batch_began(self) -> None:
        """From here on `revoke` waits for `batch_ended`."""
        self._no_batch_in_hand.clear()

    def batch_ended(self) -> None:
        """The batch in hand is finished."""
        self._no_batch_in_hand.set()

    def assign(self, partitions: Iterable[int]) -> None:
        """Post a new assignment."""
        self._wanted = frozenset(partitions)
        self._generation += 1
        assigned, self._assigned = self._assigned, asyncio.Event()
        assigned.set()

    def withdraw(self) -> None:
        """Post that nothing is assigned at the moment."""
        self._wanted = None

    async def revoke(self) -> None:
        """Post that nothing is assigned, then wait for the batch in hand, up to REVOKE_WAIT_LIMIT_S."""
        self._wanted = None
        try:
            async with asyncio.timeout(REVOKE_WAIT_LIMIT_S):
                await self._no_batch_in_hand.wait()
        except TimeoutError:
            return

    def expect_turns(self) -> None:
        """From here on the loop is expected to turn."""
        self._turned_at_s = asyncio.get_running_loop().time()

    async def stalled(self, limit_s: float) -> None:
        """Return when the loop has not turned for `limit_s` seconds."""
        loop = asyncio.get_running_loop()
        assert self._turned_at_s is not None
        # Not an event for every turn: this looks once per limit.
        while (remaining_s := self._turned_at_s + limit_s - loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(remaining_s)
        self._turned.clear()

    async def next_turn(self) -> None:
        """Return when the loop has turned since it was found to be stalled."""
        await self._turned.wait()
