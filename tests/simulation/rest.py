"""How a world comes to rest when nothing is disturbed any more: by itself, and with an operator where one is needed."""

import asyncio
from typing import TYPE_CHECKING, Final

from ledger.broker.protocol import TopicPartition
from ledger.event_store.protocol import ConsumedMark
from tests.auditor.violation import ViolationError
from tests.simulation.clients import Answer
from tests.simulation.fault_kinds import Fault
from tests.simulation.watched import halt_texts

if TYPE_CHECKING:
    from tests.simulation.world import World

SETTLE_LIMIT_S: Final = 300.0
LOOK_S: Final = 0.5
LOOKS_BEFORE_ASKING: Final = 8
OPERATIONS_MAX: Final = 3
"""A remedy may lay bare the next cause: a read model halts at an event that was only decided thanks to it."""

QUESTIONS_MAX: Final = 2
"""Commands that are sent again at the end, and must be answered."""


class Rest:
    """The end of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._asked: dict[Answer, int] = {}

    async def come_to_rest(self) -> None:
        """No more faults: everything must come to its end. Raises ViolationError when it does not."""
        world = self._world
        world.settling = True
        world.broker.available = world.postgres_available = True
        world.stop_postgres_in_batch = None
        world.say("no more faults")
        for process in list(world.processes):
            world.thaw(process)
        for role, count in world.wanted.items():
            for _ in range(count - sum(process.role == role for process in world.processes)):
                world.start(role)
        await self._settled()
        for _ in range(OPERATIONS_MAX):
            if not self._needs_operator():
                break
            await self._operate()
            await self._settled()
        world.refused = None
        world.asked_for_new = True
        world.say("asked again, and for something new")
        self._asked = world.clients.ask_again(QUESTIONS_MAX)
        self._asked |= dict.fromkeys(world.clients.send_new(), 0)
        await self._settled()
        halted = self._halted()
        if halted:
            raise ViolationError(f"still halted: {halted}")

    def _needs_operator(self) -> bool:
        return bool(self._halted()) or (self._world.poison is not None and not self._world.healed)

    def _halted(self) -> list[str]:
        world = self._world
        partitions = [f"{p}: {because}" for p, because in self._halted_partitions().items()]
        feeds = [(name, world.projections.active(name, p)) for name in world.read_models for p in world.record.heads]
        return partitions + [f"{name}: {feed.halted_because}" for name, feed in feeds if feed.halted_because]

    def _halted_partitions(self) -> dict[int, str]:
        heads = self._world.record.heads.items()
        texts = {p: "; ".join(halt_texts(head.halted_because, head.halted_apps)) for p, head in heads}
        return {p: text for p, text in texts.items() if text}

    async def _settled(self) -> None:
        deadline = asyncio.get_running_loop().time() + SETTLE_LIMIT_S
        looks = 0
        while unsettled := self._unsettled():
            looks += 1
            if looks % LOOKS_BEFORE_ASKING == 0:  # a replay is best effort: who waits for it asks again
                self._world.clients.resend(self._unanswered())
            if asyncio.get_running_loop().time() > deadline:
                raise ViolationError(f"it does not come to rest: {'; '.join(unsettled)}")
            await asyncio.sleep(LOOK_S)

    def _unsettled(self) -> list[str]:
        return [*self._partitions(), *self._read_models(), *self._answers()]

    def _partitions(self) -> list[str]:
        world, behind = self._world, []
        for partition, head in world.record.heads.items():
            if head.published_sequence < head.sequence:
                behind.append(f"{partition} published {head.published_sequence} of {head.sequence}")
            if head.halted_because is not None:
                continue
            assigned = self._assigned("consumer", partition)
            if head.holder not in assigned:
                behind.append(f"{partition} is held by {head.holder}, assigned to {assigned}")
            for app in world.apps:
                if app in (head.halted_apps or {}):
                    continue
                log = world.broker.log(TopicPartition(world.topics.commands(app), partition))
                mark = world.record.offsets.get((app, partition))
                assert log is not None
                # Also where retention has removed all that there was: somebody is yet to notice.
                if (0 if mark is None else mark.next_offset) < log.end:
                    behind.append(f"{app}:{partition} consumed {mark and mark.next_offset} of {log.end}")
        return behind

    def _read_models(self) -> list[str]:
        world, behind = self._world, []
        for name in world.read_models:
            for partition, head in world.record.heads.items():
                feed = world.projections.active(name, partition)
                if feed.halted_because is not None:
                    continue
                # What Kafka has lost shows when the next event comes.
                lost = world.chance.counts[Fault.EVENTS_LOST] and not world.asked_for_new
                if feed.sequence < head.sequence and not lost:
                    behind.append(f"{name} is at {partition}:{feed.sequence} of {head.sequence}")
                assigned = self._assigned("worker", partition)
                if feed.holder not in assigned:
                    behind.append(f"{name} of {partition} is held by {feed.holder}, assigned to {assigned}")
        return behind

    def _answers(self) -> list[str]:
        return [f"{answer} was not answered" for answer in self._unanswered()]

    def _unanswered(self) -> list[Answer]:
        answered = self._world.clients.answered
        return [answer for answer, before in self._asked.items() if answered.get(answer, 0) <= before]

    def _assigned(self, role: str, partition: int) -> list[str]:
        return [
            process.name
            for process in self._world.processes
            if process.role == role
            and process.membership is not None
            and process.membership.wanted is not None
            and partition in process.membership.wanted
        ]

    # ---- what an operator does, as docs/operating.md says ----

    async def _operate(self) -> None:
        world = self._world
        halted = self._halted_partitions()
        world.say(f"an operator acts on {halted}, read models {sorted(world.audit.refused)}")
        stopped = [process for process in world.processes if process.role == "consumer"]
        wanted, world.wanted["consumer"] = world.wanted["consumer"], 0
        for process in stopped:
            world.stop(process)
        tasks = [process.task for process in stopped if process.task is not None]
        if tasks:
            _done, pending = await asyncio.wait(tasks, timeout=60)
            if any(process.alive and process.task in pending for process in stopped):
                raise ViolationError("a consumer does not stop within 60 s")
        for partition, because in halted.items():
            self._put_right(partition, because)
        if world.poison is not None:
            world.healed = True
        for name in world.read_models:
            if any(world.projections.active(name, partition).halted_because for partition in world.record.heads):
                world.chance.happened(Fault.REMEDY_REBUILD)
                world.begin_rebuild(name, 0.0)
        world.wanted["consumer"] = wanted
        for _ in range(wanted):
            world.start("consumer")

    def _put_right(self, partition: int, because: str) -> None:
        world, head = self._world, self._world.record.heads[partition]
        # Every `ledger recover` leaves the partition free and halted for nothing. What else is wrong shows later.
        head.halted_because = head.halted_record = head.halted_apps = None
        if "Offsets out of range" in because:
            # ledger recover offsets APP
            world.chance.happened(Fault.REMEDY_OFFSETS)
            for app in world.apps:
                log = world.broker.log(TopicPartition(world.topics.commands(app), partition))
                mark = world.record.offsets.get((app, partition))
                assert log is not None
                if log.start > (0 if mark is None else mark.next_offset):
                    world.record.offsets[app, partition] = ConsumedMark(log.start, log.start - 1, 0, bytes(16))
        if "A record that kills the consumer" in because:
            # ledger recover partition P
            world.chance.happened(Fault.REMEDY_KILLER)
            head.trying, head.trying_claims = None, 0
        if "Offsets out of range" not in because and "A record that kills the consumer" not in because:
            world.chance.happened(Fault.REMEDY_VERSION)
