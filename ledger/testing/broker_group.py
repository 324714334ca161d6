"""Consumer groups of the in-memory broker: eager rebalances with the Range assignor, as aiokafka makes them."""

import asyncio
from collections.abc import Awaitable, Callable

from ledger.broker.assignment_board import LOOP_STALL_LIMIT_S, AssignmentBoard


class InMemoryGroup:
    """One group. Whenever a member comes or goes, all give up everything and are assigned anew."""

    def __init__(self, step: Callable[[], Awaitable[None]]) -> None:
        self._step = step
        self._members: list[InMemoryMembership] = []
        self._changes = 0
        self._rebalancing: asyncio.Task[None] | None = None

    def join(self, member: "InMemoryMembership") -> None:
        """Take a member in; one that is in the group stays in it."""
        if member not in self._members:
            self._members.append(member)
            self.rebalance()

    def leave(self, member: "InMemoryMembership") -> None:
        """Let a member go; one that is not in the group is let go already."""
        if member in self._members:
            self._members.remove(member)
            self.rebalance()

    def has(self, member: "InMemoryMembership") -> bool:
        """Whether the member is in the group."""
        return member in self._members

    def shuffle(self) -> None:
        """Assign everything anew for no reason, with the members in another order."""
        self._members[:] = [*self._members[1:], *self._members[:1]]
        self.rebalance()

    def rebalance(self) -> None:
        """Take everything from all members and assign it anew."""
        self._changes += 1
        if self._rebalancing is None or self._rebalancing.done():
            self._rebalancing = asyncio.ensure_future(self._until_settled())

    async def _until_settled(self) -> None:
        while True:
            changes = self._changes
            await asyncio.gather(*(member.board.revoke() for member in self._members))
            await self._step()
            if changes == self._changes:
                break
        for number, member in enumerate(self._members):
            member.board.assign(_range(member.partitions(), number, len(self._members)))


def _range(partitions: int, member: int, members: int) -> range:
    """The Range assignor for one topic: contiguous, the first members get one more."""
    share, rest = divmod(partitions, members)
    start = share * member + min(member, rest)
    return range(start, start + share + (1 if member < rest else 0))


class InMemoryMembership:
    """Membership of an InMemoryBroker.

    For simulations: `lose_session` is what happens to a process that is frozen (the group goes on without it, it does
    not know), `notice_lost_session` is what it finds when it thaws.
    """

    def __init__(
        self,
        group: InMemoryGroup,
        partitions: Callable[[], int],
        connect: Callable[[], Awaitable[None]],
        loop_stall_limit_s: float | None,
    ) -> None:
        self.board = AssignmentBoard()
        self.partitions = partitions
        self._group = group
        self._connect = connect
        self._loop_stall_limit_s = LOOP_STALL_LIMIT_S if loop_stall_limit_s is None else loop_stall_limit_s
        self._watching: asyncio.Task[None] | None = None
        self.changed = self.board.changed
        self.turned = self.board.turned
        self.batch_began = self.board.batch_began
        self.batch_ended = self.board.batch_ended

    @property
    def wanted(self) -> frozenset[int] | None:
        """The partition numbers assigned now."""
        return self.board.wanted

    @property
    def generation(self) -> int:
        """Rises with every assignment."""
        return self.board.generation

    async def start(self) -> None:
        """Join. Raises BrokerUnavailableError."""
        await self._connect()
        self._group.join(self)
        self._watching = asyncio.ensure_future(self._leave_when_stalled())

    async def stop(self) -> None:
        """Leave at once."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.cancel()
        self.board.withdraw()
        self._group.leave(self)

    async def rejoin(self) -> None:
        """Leave and join again."""
        self.board.turned()
        self.board.withdraw()
        self._group.leave(self)
        self._group.join(self)

    def lose_session(self) -> None:
        """The group gives its partitions to others; the member is not told."""
        self._group.leave(self)

    async def notice_lost_session(self) -> None:
        """The member learns that it has lost its session, and joins again; one that is in the group anew knows."""
        if not self._group.has(self):
            await self.board.revoke()
            self._group.join(self)

    async def _leave_when_stalled(self) -> None:
        while True:
            self.board.expect_turns()
            await self.board.stalled(self._loop_stall_limit_s)
            self.board.withdraw()
            self._group.leave(self)
            await self.board.next_turn()
            self._group.join(self)
