"""What Membership promises, on the real cluster and on the in-memory one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from ledger.broker.assignment_board import REVOKE_WAIT_LIMIT_S
from ledger.broker.protocol import Membership
from tests.contract.clusters import Cluster, unique

PARTITIONS = 5
EVERYTHING = frozenset(range(PARTITIONS))
Join = Callable[..., "asyncio.Future[Membership]"]


@pytest.fixture
async def join(cluster: Cluster) -> AsyncIterator[Join]:
    """Join members of one group; they leave at the end of the test."""
    topic = await cluster.new_topic(PARTITIONS)
    group = unique("group")

    async with AsyncExitStack() as stack:

        async def start(loop_stall_limit_s: float = 60.0) -> Membership:
            member = cluster.membership(group, topic, loop_stall_limit_s)
            assert member.wanted is None
            await member.start()
            stack.push_async_callback(member.stop)
            return member

        yield lambda **arguments: asyncio.ensure_future(start(**arguments))


async def until(condition: Callable[[], bool], *members: Membership) -> None:
    """Wait until the condition holds; looked at whenever an assignment changes."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.wait(
                [asyncio.create_task(member.changed(member.generation, 0.1)) for member in members],
                return_when=asyncio.FIRST_COMPLETED,
            )


def shared_out(*members: Membership) -> bool:
    """Whether every partition is wanted by exactly one member."""
    numbers = [number for member in members for number in (member.wanted or ())]
    return sorted(numbers) == sorted(EVERYTHING) and all(member.wanted is not None for member in members)


async def test_the_only_member_is_assigned_every_partition(join: Join) -> None:
    member = await join()
    await member.changed(0, 20.0)
    assert member.wanted == EVERYTHING
    assert member.generation == 1


async def test_members_share_the_partitions_and_each_joining_raises_the_generation(join: Join) -> None:
    first = await join()
    await until(lambda: shared_out(first), first)
    before = first.generation
    second = await join()
    await until(lambda: shared_out(first, second), first, second)
    assert first.generation > before
    assert sorted(len(member.wanted or ()) for member in (first, second)) == [2, 3]
    third = await join()
    await until(lambda: shared_out(first, second, third), first, second, third)


async def test_a_member_that_stops_leaves_at_once(join: Join) -> None:
    """Others do not wait for the session timeout of 6 s."""
    first, second = await join(), await join()
    await until(lambda: shared_out(first, second), first, second)
    begun_s = asyncio.get_running_loop().time()
    await first.stop()
    assert first.wanted is None
    await until(lambda: shared_out(second), second)
    assert asyncio.get_running_loop().time() - begun_s < 5.0


async def test_rejoining_gives_a_new_assignment(join: Join) -> None:
    first, second = await join(), await join()
    await until(lambda: shared_out(first, second), first, second)
    before = first.generation, second.generation
    await first.rejoin()
    await until(
        lambda: shared_out(first, second) and first.generation > before[0] and second.generation > before[1],
        first,
        second,
    )


async def test_a_revocation_waits_for_the_batch_in_hand(join: Join) -> None:
    first = await join()
    await until(lambda: shared_out(first), first)
    first.batch_began()
    second = await join()
    await until(lambda: first.wanted is None, first)
    await second.changed(0, 1.0)
    assert second.wanted is None, "the newcomer gets nothing while the batch is in hand"
    first.batch_ended()
    await until(lambda: shared_out(first, second), first, second)


async def test_a_revocation_does_not_wait_for_ever(join: Join) -> None:
    first = await join()
    await until(lambda: shared_out(first), first)
    first.batch_began()
    begun_s = asyncio.get_running_loop().time()
    second = await join()
    await until(lambda: shared_out(first, second), first, second)
    assert asyncio.get_running_loop().time() - begun_s >= REVOKE_WAIT_LIMIT_S - 0.1


async def test_a_member_whose_loop_does_not_turn_leaves_and_comes_back_when_it_turns(join: Join) -> None:
    sound, stalled = await join(), await join(loop_stall_limit_s=2.0)
    stalled.turned()
    await until(lambda: shared_out(sound, stalled), sound, stalled)
    await until(lambda: shared_out(sound), sound)
    assert stalled.wanted is None
    stalled.turned()
    await until(lambda: shared_out(sound, stalled), sound, stalled)


async def test_a_member_that_was_left_for_a_stall_can_rejoin_at_once(join: Join) -> None:
    sound, stalled = await join(), await join(loop_stall_limit_s=2.5)
    await until(lambda: shared_out(sound, stalled), sound, stalled)
    await until(lambda: shared_out(sound), sound)
    async with asyncio.timeout(5.0):
        await stalled.rejoin()
    stalled.turned()
    await until(lambda: shared_out(sound, stalled), sound, stalled)
    generation = sound.generation
    await sound.changed(generation, 0.5)
    assert sound.generation == generation, "it has joined once"


async def test_a_loop_that_turns_keeps_its_partitions(join: Join) -> None:
    member = await join(loop_stall_limit_s=0.5)
    await until(lambda: shared_out(member), member)
    generation = member.generation
    for _ in range(15):
        member.turned()
        await asyncio.sleep(0.1)  # the time that passes is what is tested: three times the stall limit
    assert (member.wanted, member.generation) == (EVERYTHING, generation)


async def test_waiting_for_a_change_ends_with_its_timeout(join: Join) -> None:
    member = await join()
    await until(lambda: shared_out(member), member)
    await member.changed(member.generation, 0.05)
    await member.changed(member.generation - 1, 60.0)


async def test_stopping_twice_or_before_the_start_is_harmless(cluster: Cluster) -> None:
    member = cluster.membership(unique("group"), await cluster.new_topic(), 60.0)
    await member.stop()
    await member.start()
    await member.stop()
    await member.stop()
