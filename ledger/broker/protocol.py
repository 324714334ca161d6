"""What the ledger needs of Kafka, and no more: so that the same loops run on the real one and on an in-memory twin.

Every implementation passes the contract suite in tests/contract.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec

SESSION_TIMEOUT_MS: Final = 6_000
"""A member that is silent for this long loses its partitions."""

HEARTBEAT_INTERVAL_MS: Final = 1_000


class BrokerUnavailableError(Exception):
    """Kafka did not answer. Nothing is known to be lost; back off and try again."""


class AccessDeniedError(BrokerUnavailableError):
    """Kafka answers and refuses, or is not trusted: wrong login, certificate or rights. The text says what to correct;
    until then, trying again gives the same answer."""


class PublishError(Exception):
    """A publication failed or is in doubt. The publisher is at its end: open a new one and publish again from the
    last acknowledged record."""


class OffsetOutOfRangeError(Exception):
    """The log no longer, or not yet, holds the offset that is to be read next."""

    def __init__(self, topic_partition: "TopicPartition", offset: int) -> None:
        super().__init__(f"{topic_partition} does not hold offset {offset}")
        self.topic_partition = topic_partition
        self.offset = offset


class TopicCreationError(Exception):
    """The cluster refuses a topic as it is wanted (too few brokers for its copies, no right to create it)."""


class TopicPartition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as it was read. `timestamp_ms` is Kafka's (milliseconds since 1970). Headers are never needed."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None


class Bounds(NamedTuple):
    """The offsets that a partition's log holds for readers: `start` is the first one, `end` the one after the last.

    `end` is the next offset to be written, unless a foreign producer's transaction is open: then where it began.
    """

    start: int
    end: int


class OutgoingRecord(NamedTuple):
    """A record to be published."""

    key: bytes
    value: bytes


class RecordReader(Protocol):
    """Reads assigned partitions, `read_committed`, without a group and without committing anything to Kafka.

    One task alone calls it (FACTS: a poll in flight while another task assigns swallows records).
    """

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError."""

    async def stop(self) -> None:
        """Disconnect, within a limit; never raises."""

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Replace the whole assignment; reading goes on at these offsets. No await, no I/O."""

    async def poll(
        self, max_records: int, timeout_s: float, only: Collection[TopicPartition] | None = None
    ) -> Sequence[Record]:
        """Up to `max_records` records, in offset order within each partition; empty after `timeout_s` without any.

        A record whose headers cannot be read is returned like any other; no record is ever skipped. With `only`, the
        other assigned partitions wait.

        Raises:
            OffsetOutOfRangeError: for one partition; the others can be polled on after a new `assign` without it.
            BrokerUnavailableError: nothing was lost; the next poll returns the same records.
        """

    def doubtful(self) -> Collection[TopicPartition]:
        """Assigned partitions that a broker has disowned for a moment since `assign`: what answers under their names
        now may be another log. None of that log's records is returned before its partition is among these."""

    def caught_up(self, topic_partition: TopicPartition) -> bool:
        """Whether the last answer of the broker for this partition showed nothing behind the reader's position.
        False as long as the broker has not answered since `assign`."""

    async def bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """The offsets that the logs hold. Raises BrokerUnavailableError."""

    async def reachable_bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """Like `bounds`, but a partition that has no leader is left out. Raises BrokerUnavailableError."""

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics of the cluster and the number of partitions of each, fresh. Raises BrokerUnavailableError."""


class Membership(Protocol):
    """Membership in a consumer group that only shares out partition numbers.

    The group subscribes to one topic of fixed size, paused, and never reads it. `wanted` is a notice board: the loop
    that owns the work looks at it between two polls.
    """

    async def start(self) -> None:
        """Join. Raises BrokerUnavailableError."""

    async def stop(self) -> None:
        """Leave at once, so that others take over without waiting for the session timeout; never raises."""

    async def rejoin(self) -> None:
        """Leave and join again: called after a jittered wait by a member that was fenced."""

    def turned(self) -> None:
        """The loop has turned (backing off counts). Without it for `LOOP_STALL_LIMIT_S` the member leaves."""

    @property
    def wanted(self) -> frozenset[int] | None:
        """The partition numbers assigned now; None during a rebalance and before the first assignment."""

    @property
    def generation(self) -> int:
        """Rises with every assignment."""

    async def changed(self, since_generation: int, timeout_s: float) -> None:
        """Return when the generation differs or the timeout has passed."""

    def batch_began(self) -> None:
        """From here on a revocation waits, up to `REVOKE_WAIT_LIMIT_S`, for `batch_ended`."""

    def batch_ended(self) -> None:
        """The batch in hand is finished."""


class Publisher(Protocol):
    """An idempotent producer, acknowledged by all in-sync replicas."""

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError."""

    async def stop(self) -> None:
        """Disconnect, within a limit (an idempotent send, and so its stop, hangs when a broker dies); never raises."""

    async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
        """Append these records in order; return the offset of the first when all are acknowledged.

        At most one call per partition may be under way. It returns, or raises PublishError, within a limit.
        """


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it should be. `retention_ms` -1 means for ever."""

    name: str
    partitions: int
    replication_factor: int
    retention_ms: int
    min_insync_replicas: int = 1


class TopicAdmin(Protocol):
    """Creates and describes topics."""

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics and their numbers of partitions. Raises BrokerUnavailableError."""

    async def create(self, specs: Sequence[TopicSpec]) -> None:
        """Create these topics; one that exists by now is left as it is. All are in `partition_counts` afterwards.

        Raises BrokerUnavailableError, TopicCreationError.
        """
