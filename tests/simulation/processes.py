"""A simulated process: it can freeze and die at any step. Only while it runs, what it does has an effect."""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from random import Random
from typing import Final, Literal

from consumers.ledger_consumer import LedgerConsumer
from ledger.broker.protocol import Record, TopicPartition
from ledger.testing.broker import InMemoryBroker, InMemoryRecordReader
from ledger.testing.broker_group import InMemoryMembership
from projections.worker import ProjectionWorker

Role = Literal["consumer", "worker"]
StepClass = Literal["write", "publish", "claim", "read", "poll"]

STEP_CLASSES: Final[dict[str, StepClass]] = {
    "append": "write",
    "append done": "write",
    "advance": "write",
    "advance done": "write",
    "publish": "publish",
    "acknowledge": "publish",
    "claim": "claim",
    "claim done": "claim",
    "poll": "poll",
    "bounds": "poll",
    "partition_counts": "poll",
    "start": "poll",
}
"""What kind of moment a step is; the others are reads of the database. Writes are disturbed most often, polls least."""

STEPS_BETWEEN: Final[dict[StepClass, float]] = {"write": 0.6, "publish": 0.6, "claim": 1.0, "read": 2.0, "poll": 8.0}
"""Mean number of steps of a class between two faults, times that of the seed."""


@dataclass(eq=False)
class Process:
    """A ledger consumer or a projection worker."""

    name: str
    role: Role
    random: Random
    steps_between_faults: float
    alive: bool = True
    stopping: bool = False
    clock_ahead_s: float = 0.0
    running: asyncio.Event = field(default_factory=asyncio.Event)
    membership: "GatedMembership | None" = None
    program: LedgerConsumer | ProjectionWorker | None = None
    task: asyncio.Task[None] | None = None
    faults: int = 0
    """How many were drawn, done or not: the next one's number."""
    steps_left: dict[str, int] = field(default_factory=dict)
    """Until the next fault, by class of step."""

    def __post_init__(self) -> None:
        self.running.set()
        for step_class in STEPS_BETWEEN:
            self.draw_gap(step_class)

    def draw_gap(self, step_class: StepClass) -> None:
        """Draw how many steps of this class pass until the next fault."""
        mean = self.steps_between_faults * STEPS_BETWEEN[step_class]
        self.steps_left[step_class] = 1 + int(self.random.expovariate(1 / mean)) if mean else -1

    async def gate(self) -> None:
        """Where a frozen process waits, and a dead one for ever: nothing that it does has an effect past here."""
        if not self.alive:
            await asyncio.Event().wait()
        while not self.running.is_set():
            await self.running.wait()
            if not self.alive:
                await asyncio.Event().wait()

    @property
    def at_work(self) -> bool:
        """Whether it takes part: neither dead nor frozen nor asked to stop."""
        return self.alive and not self.stopping and self.running.is_set()


CURRENT: ContextVar[Process | None] = ContextVar("CURRENT", default=None)
"""Whose code runs: every task of a process inherits it."""


class GatedMembership:
    """Membership of a process: what it does there waits while it is frozen, and never happens when it is dead."""

    def __init__(self, inner: InMemoryMembership, process: Process) -> None:
        self.inner = inner
        self._process = process
        self.changed = inner.changed
        self.turned = inner.turned
        self.batch_began = inner.batch_began
        self.batch_ended = inner.batch_ended
        self._board = inner.board

    @property
    def wanted(self) -> frozenset[int] | None:
        """See Membership."""
        return self._board.wanted

    @property
    def generation(self) -> int:
        """See Membership."""
        return self._board.generation

    async def start(self) -> None:
        """See Membership."""
        await self._process.gate()
        await self.inner.start()

    async def stop(self) -> None:
        """See Membership."""
        await self._process.gate()
        await self.inner.stop()

    async def rejoin(self) -> None:
        """See Membership."""
        await self._process.gate()
        await self.inner.rejoin()


class SeededReader(InMemoryRecordReader):
    """A reader whose polls take other sizes and waits, and which says when a record is fetched a second time."""

    def __init__(
        self,
        broker: InMemoryBroker,
        records_max: int,
        patience: float,
        fetched: dict[TopicPartition, int] | None = None,
    ) -> None:
        super().__init__(broker)
        self._records_max = records_max
        self._patience = patience
        self._fetched: dict[TopicPartition, int] = defaultdict(int) if fetched is None else fetched
        self.fetched_again = 0

    async def poll(
        self, max_records: int, timeout_s: float, only: Collection[TopicPartition] | None = None
    ) -> Sequence[Record]:
        """See RecordReader. `patience` times the wait: fewer idle turns, the same interleavings."""
        records = await super().poll(min(max_records, self._records_max), timeout_s * self._patience, only)
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            if record.offset < self._fetched[place]:
                self.fetched_again += 1
            else:
                self._fetched[place] = record.offset + 1
        return records
