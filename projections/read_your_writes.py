"""Reads that show what was answered before them.

A service notes the position of everything that it answers (`AnsweredPositions`); a read waits until the read model has
got there. Positions of single owners only shorten the wait: of an owner who is not remembered, every position answered
on its partition may be one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from typing import Final, Protocol, TypeVar

from ledger.domain.position import Position

OWNERS_REMEMBERED_MAX: Final = 50_000
WAIT_FIRST_S: Final = 0.004
WAIT_LONGEST_S: Final = 0.05
WAIT_GROWTH: Final = 1.5
RETRY_AFTER_S: Final = 1
"""What a caller whose read waited in vain is told to wait."""


class StaleReadError(Exception):
    """The read model did not reach the position in time: better no answer than an old one."""

    def __init__(self, required: Position, reached: Position, waited_s: float) -> None:
        super().__init__(
            f"the read model is at {reached} and did not reach {required} within {waited_s:g} s; try again"
        )
        self.required = required
        self.reached = reached


class AnsweredPositions:
    """The highest position that this service has answered, by partition, and by owner while it is remembered."""

    def __init__(self) -> None:
        self._by_owner: OrderedDict[tuple[int, str], int] = OrderedDict()
        self._of_others: dict[int, int] = {}

    def note_position(self, position: Position, owner_id: str | None = None) -> None:
        """An answer carried this position: every later read of the owner must show it."""
        if owner_id is None:
            self._raise_others(position)
            return
        key = (position.partition, owner_id)
        self._by_owner[key] = max(position.sequence, self._by_owner.get(key, 0))
        self._by_owner.move_to_end(key)
        if len(self._by_owner) > OWNERS_REMEMBERED_MAX:
            (partition, _), sequence = self._by_owner.popitem(last=False)
            self._raise_others(Position(partition, sequence))

    def required(self, partition: int, owner_id: str, named: Collection[Position] = ()) -> int:
        """The sequence that a read of this owner must have reached.

        Args:
            partition: the owner's.
            owner_id: the owner.
            named: positions that the caller names; those on other partitions are of other owners and say nothing.
        """
        by_caller = max((position.sequence for position in named if position.partition == partition), default=0)
        # What was answered without an owner may be this owner's.
        others = self._of_others.get(partition, 0)
        return max(by_caller, others, self._by_owner.get((partition, owner_id), 0))

    def _raise_others(self, position: Position) -> None:
        self._of_others[position.partition] = max(position.sequence, self._of_others.get(position.partition, 0))


class HasPosition(Protocol):
    """What a query answers: it says which events it contains."""

    @property
    def position(self) -> Position:
        """The last event that the answer contains."""


Answer = TypeVar("Answer", bound=HasPosition)
Read = TypeVar("Read")


async def read_at_least(read: Callable[[], Awaitable[Answer]], required: int, limit_s: float) -> Answer:
    """Read, again and again, until the answer contains the required sequence of its partition.

    Raises:
        StaleReadError: it did not within the limit (seconds).
    """
    return await read_until(read, lambda answer: _missed(answer.position, required), limit_s)


async def read_until(
    read: Callable[[], Awaitable[Read]], missed: Callable[[Read], tuple[Position, Position] | None], limit_s: float
) -> Read:
    """Read, again and again, until nothing is missed: `missed` tells what an answer lacks, as the position that is
    required and the one that is reached.

    Raises:
        StaleReadError: there was something within all of the limit (seconds).
    """
    deadline = asyncio.get_running_loop().time() + limit_s
    wait = WAIT_FIRST_S
    while True:
        answer = await read()
        lack = missed(answer)
        if lack is None:
            return answer
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise StaleReadError(*lack, limit_s)
        await asyncio.sleep(min(wait, left))
        wait = min(wait * WAIT_GROWTH, WAIT_LONGEST_S)


def _missed(reached: Position, required: int) -> tuple[Position, Position] | None:
    return None if reached.sequence >= required else (Position(reached.partition, required), reached)
