"""The twins of one simulated world: each tells the auditor what was committed or published, at the instant it was."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ledger.broker.protocol import TopicPartition
from ledger.event_store.protocol import AppendBatch, Appended, AppendResult, Claim, Halt
from ledger.testing.broker import InMemoryBroker
from ledger.testing.event_store import InMemoryEventStore
from projections.feed import Feed, FeedKey
from projections.store import Advance
from projections.testing import InMemoryProjectionStore

if TYPE_CHECKING:
    from tests.simulation.processes import Process
    from tests.simulation.world import World


class WatchedBroker(InMemoryBroker):
    """Kafka."""

    def __init__(self, world: "World", publish_batch_records_max: int) -> None:
        super().__init__(world.broker_step, publish_batch_records_max)
        self._world = world

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> int:
        """See InMemoryBroker."""
        if topic == self._world.topics.events and self._world.loses_event():
            # It was published, and is gone: read models have to fill the gap from the record.
            log = self.log(TopicPartition(topic, partition))
            assert log is not None
            self._world.audit.appended_to_topic(topic, partition, log.end, key, value)
            return log.end
        offset = super().append(topic, partition, key, value)
        self._world.audit.appended_to_topic(topic, partition, offset, key, value)
        return offset


def halt_texts(because: str | None, apps: Mapping[str, str] | None) -> list[str]:
    """Why a partition stands still, wholly and for single apps."""
    return [*([because] if because else []), *(apps or {}).values()]


class WatchedEventStore(InMemoryEventStore):
    """One ledger consumer's connection to Postgres."""

    def __init__(self, world: "World", process: "Process") -> None:
        super().__init__(world.record, world.store_step)
        self._world = world
        self._process = process

    async def note_halted(self, partition: int, epoch: int, halt: Halt) -> None:
        """See EventStore."""
        await super().note_halted(partition, epoch, halt)
        for because in halt_texts(halt.because, halt.apps):
            self._world.audit.halted(partition, epoch, because)

    def _claim(self, partition: int, holder: str, if_epoch: int | None) -> Claim | None:
        claim = super()._claim(partition, holder, if_epoch)
        if claim is not None:
            self._world.audit.claimed(partition, claim.epoch, self._process.name)
        return claim

    def _append(self, batch: AppendBatch) -> AppendResult:
        result = super()._append(batch)
        if isinstance(result, Appended):
            self._world.audit.committed(batch, self._process.name)
        return result


class WatchedProjectionStore(InMemoryProjectionStore):
    """One projection worker's connection to Postgres."""

    def __init__(self, world: "World", process: "Process") -> None:
        super().__init__(world.projections, world.store_step)
        self._world = world
        self._process = process

    async def note_halted(self, key: FeedKey, epoch: int, because: str) -> None:
        """See ProjectionStore."""
        await super().note_halted(key, epoch, because)
        self._world.audit.feed_halted(key, because)

    def _claim(self, keys: Mapping[FeedKey, int | None], holder: str) -> list[Feed]:
        feeds = super()._claim(keys, holder)
        for feed in feeds:
            self._world.audit.feed_claimed(feed.key, feed.epoch, self._process.name)
        return feeds

    def _advance(self, batch: Sequence[Advance]) -> frozenset[FeedKey]:
        lost = super()._advance(batch)
        if not lost:
            for one in batch:
                self._world.audit.feed_advanced(one, self._process.name)
        return lost
