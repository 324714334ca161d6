"""One seed, one world: a ledger that writes and publishes, projection workers, rebuilds and a nemesis, in virtual time.

The real worker runs on the twins; chance decides who crashes, freezes, is slow, loses answers, and when.
"""

import asyncio
from random import Random

from ledger.event_store.protocol import Appended
from ledger.messages.event_codec import encode_event
from ledger.testing.event_store import InMemoryEventStore
from projections.feed import FeedKey
from projections.testing import InMemoryProjections, InMemoryProjectionStore
from projections.worker import ProjectionWorker
from tests.contract.hand import Hand
from tests.simulation.auditor import ViolationError
from tests.simulation.world import CURRENT, LOAD_S, TOPICS, Process, World

READ_MODELS = ("balances", "statements")


class ProjectionWorld(World):
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.projections = InMemoryProjections(self.record)
        self.projections.install(READ_MODELS)
        self.published = dict.fromkeys(range(self.partitions), 0)
        self.rebuilds = 0

    def start_process(self) -> None:
        self.started += 1
        process = Process(f"worker-{self.started}", running=asyncio.Event())
        assert process.running is not None
        process.running.set()
        CURRENT.set(process)
        process.membership = self.broker.membership(TOPICS.projection_group(), TOPICS.events)
        process.consumer = ProjectionWorker(  # type: ignore[assignment]  # all that is asked of it is to stop
            events_topic=TOPICS.events,
            membership=process.membership,
            reader=self.broker.reader(),
            store=InMemoryProjectionStore(self.projections, self.store_step),
            read_models=READ_MODELS,
            holder=process.name,
            random=Random(self.random.random()),
        )
        assert process.consumer is not None
        process.task = asyncio.create_task(process.consumer.run(), name=process.name)
        CURRENT.set(None)
        self.processes.append(process)
        self.say(f"{process.name} starts")

    async def apps(self) -> None:
        """The ledger: it writes, and publishes at least once, beginning again further back now and then."""
        hand = Hand(InMemoryEventStore(self.record))
        await hand.claim(*range(self.partitions))
        for _ in range(self.random.randint(5, 40)):
            await asyncio.sleep(self.random.expovariate(40 / LOAD_S))
            partition = self.random.randrange(self.partitions)
            for _ in range(self.random.choice((1, 1, 3, 20))):
                if self.random.random() < 0.2:
                    hand.rejection(partition, owner_id=self.random.choice(self.owners))
                else:
                    hand.entry(partition, owner_id=self.random.choice(self.owners))
            assert isinstance(await hand.write(), Appended)
            if self.random.random() < 0.7:
                await self.publish(partition)
        for partition in range(self.partitions):
            await self.publish(partition)

    async def publish(self, partition: int) -> None:
        head = self.record.heads[partition].sequence
        after = self.published[partition]
        if self.random.random() < 0.3:
            after = self.random.randint(0, after)
        if self.random.random() < 0.1:
            after = max(0, head - 1)  # what lies before never arrives: a gap
        for event in await InMemoryEventStore(self.record).read_events(partition, after, head):
            self.broker.append(TOPICS.events, partition, event.owner_id.encode(), encode_event(event))
        self.published[partition] = head

    def remove_consumed(self) -> None:
        """A rebuild; or retention, of whatever is published."""
        if self.random.random() < 0.6:
            name = self.random.choice(READ_MODELS)
            after_restore = self.random.random() < 0.3
            self.projections.rebuild(name, after_restore=after_restore)
            self.rebuilds += 1
            self.say(f"{name} is rebuilt (after restore: {after_restore})")
            return
        partition = self.random.randrange(self.partitions)
        records = self.broker.records(TOPICS.events, partition)
        if records:
            upto = records[0].offset + self.random.randint(0, len(records))
            self.broker.remove_before(TOPICS.events, partition, upto)
            self.say(f"retention removes the events of {partition} below {upto}")

    def _unsettled(self) -> list[str]:
        behind = []
        for name in READ_MODELS:
            for partition, head in self.record.heads.items():
                feed = self.projections.active(name, partition)
                if feed.halted_because is not None:
                    behind.append(f"{name} halted on {partition}: {feed.halted_because}")
                if feed.sequence < head.sequence:
                    behind.append(f"{name} is at {partition}:{feed.sequence} of {head.sequence}")
        return behind

    def audit(self) -> None:
        """Invariant 9: what a version has taken is the record up to its checkpoint, each event once, in order."""
        recorded = {(row.partition, row.sequence): row.hash.hex() for row in self.rows()}
        for key, feed in self.projections.checkpoints.items():
            taken = [(event.partition, event.sequence, event.hash) for event in feed.taken]
            expected = [
                (key.partition, sequence, recorded[key.partition, sequence]) for sequence in range(1, feed.sequence + 1)
            ]
            if taken != expected:
                raise ViolationError(f"invariant 9: {key} at {feed.sequence} has taken {taken[-5:]}")
        live = {FeedKey(name, self.projections.versions[name], p) for name in READ_MODELS for p in self.record.heads}
        if set(self.projections.checkpoints) != live:
            raise ViolationError("a version was left behind")

    def audit_step(self) -> None:
        """There is no consumer here that publishes."""
