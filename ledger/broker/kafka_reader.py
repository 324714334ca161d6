"""Reading command and event topics from Kafka: aiokafka's client and record parser under a fetch loop of our own.

Why not AIOKafkaConsumer: its parser stops for ever at a header that is not UTF-8, it hides that brokers are away, and
a poll in flight across its assign() swallows records. Nothing here runs between two polls but one fetch per broker.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.errors import (
    KafkaError,
    NoError,
    NotLeaderForPartitionError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.errors import OffsetOutOfRangeError as KafkaOffsetOutOfRangeError
from aiokafka.protocol.fetch import FetchRequest

from ledger.broker.bounded import finish_within
from ledger.broker.cluster_queries import log_bounds, partition_counts, reachable_log_bounds
from ledger.broker.fetched_records import FetchedRecords
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import (
    AccessDeniedError,
    Bounds,
    BrokerUnavailableError,
    OffsetOutOfRangeError,
    Record,
    TopicPartition,
)
from ledger.broker.refusals import denied, unreachable

FETCH_WAIT_MAX_MS: Final = 500
"""How long a broker holds a fetch back while there is nothing to read."""

FETCH_BYTES_MAX: Final = 16 * 2**20
PARTITION_FETCH_BYTES_MAX: Final = 2**20
"""Per partition and fetch; a batch that is larger comes alone."""

REQUEST_TIMEOUT_MS: Final = 5_000
"""A broker that is silent for longer counts as away."""

METADATA_AGE_MAX_MS: Final = 3_000
RETRY_BACKOFF_S: Final = 0.1
LEADERLESS_BACKOFF_S: Final = 0.5
"""Between two questions about a partition that has no leader, such as one of a deleted topic."""

START_LIMIT_S: Final = 10.0
STOP_LIMIT_S: Final = 3.0

_READ_COMMITTED: Final = 1
_ABORTED_AND_MESSAGES: Final = {False: itemgetter(-2, -1), True: itemgetter(-3, -1)}
"""Fields of a fetch response after the last stable offset; version 11 put a preferred replica between them."""

_MOVED: Final = (NotLeaderForPartitionError, UnknownTopicOrPartitionError)


class _Reading:
    """One assigned partition: where reading stands and what has been fetched ahead."""

    __slots__ = ("disowned", "fetched", "out_of_range", "position", "stable_end", "topic_partition")

    def __init__(self, topic_partition: TopicPartition, position: int) -> None:
        self.topic_partition = topic_partition
        self.position = position
        self.fetched: FetchedRecords | None = None
        self.stable_end: int | None = None
        """Last stable offset by the broker's last answer; None before the first."""
        self.out_of_range = False
        self.disowned = False
        """Whether a broker has said that it does not lead, or know, the partition."""

    @property
    def wants_fetch(self) -> bool:
        return self.fetched is None and not self.out_of_range


class KafkaRecordReader:
    """RecordReader on a real cluster. See the protocol for what each method promises."""

    def __init__(self, kafka: KafkaServers | str, client_id: str = "ledger-reader") -> None:
        self._kafka = KafkaServers.of(kafka)
        self._client_id = client_id
        self._client: AIOKafkaClient | None = None
        self._readings: dict[TopicPartition, _Reading] = {}
        self._fetches: dict[int, asyncio.Task[None]] = {}
        """The one fetch under way per broker (node id)."""
        self._metadata_refresh: asyncio.Task[None] | None = None
        self._trouble: str | None = None
        """Why the last request to a broker failed; told by the next poll that has no records to give."""

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError; may be called again then."""
        client = AIOKafkaClient(
            client_id=self._client_id,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=METADATA_AGE_MAX_MS,
            **self._kafka.client_settings(),
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await client.bootstrap()
        except (KafkaError, TimeoutError) as error:
            await finish_within(STOP_LIMIT_S, client.close())
            raise await unreachable(self._kafka, error) from error
        self._client = client

    async def stop(self) -> None:
        """Disconnect, within STOP_LIMIT_S; never raises."""
        client, self._client = self._client, None
        tasks = [*self._fetches.values(), *([self._metadata_refresh] if self._metadata_refresh else [])]
        for task in tasks:
            task.cancel()
        self._fetches.clear()
        self._readings.clear()
        if client is not None:
            await finish_within(STOP_LIMIT_S, client.close())

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Replace the whole assignment. Fetches under way for the old one are ignored when they arrive."""
        client = self._connected()
        self._readings = {tp: _Reading(TopicPartition(*tp), offset) for tp, offset in positions.items()}
        self._trouble = None
        if positions:  # with no topic at all the client would ask for the metadata of every topic
            client.set_topics({tp.topic for tp in positions})

    async def poll(
        self, max_records: int, timeout_s: float, only: Collection[TopicPartition] | None = None
    ) -> Sequence[Record]:
        """Up to `max_records` records; what else was fetched waits in memory for the next poll."""
        self._connected()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            considered = [reading for tp, reading in self._readings.items() if only is None or tp in only]
            records = self._take(considered, max_records)
            self._begin_fetches(considered)  # ahead of the next poll, while the caller works on these
            if records:
                return records
            self._raise_what_is_wrong(considered)
            remaining_s = deadline - loop.time()
            if remaining_s <= 0:
                return []
            under_way: set[asyncio.Task[None]] = set(self._fetches.values())
            if self._metadata_refresh is not None:
                under_way.add(self._metadata_refresh)
            if under_way:
                await asyncio.wait(under_way, timeout=remaining_s, return_when=asyncio.FIRST_COMPLETED)
            else:  # nothing is assigned
                await asyncio.sleep(remaining_s)

    def doubtful(self) -> Collection[TopicPartition]:
        """Those whose broker has said since `assign` that it does not lead or know them. A topic that is deleted ends
        the fetch that the broker holds back, so one that is made again at once shows here too."""
        return [tp for tp, reading in self._readings.items() if reading.disowned]

    def caught_up(self, topic_partition: TopicPartition) -> bool:
        """Whether the last answer of the broker showed nothing that can be read behind the position."""
        reading = self._readings.get(topic_partition)
        return reading is not None and reading.stable_end is not None and reading.position >= reading.stable_end

    async def bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """`end` is the last stable offset: where this reader would stop. Raises BrokerUnavailableError."""
        return await log_bounds(self._connected(), self._kafka, topic_partitions)

    async def reachable_bounds(self, topic_partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, Bounds]:
        """Like `bounds`, without partitions that have no leader. Raises BrokerUnavailableError."""
        return await reachable_log_bounds(self._connected(), self._kafka, topic_partitions)

    async def partition_counts(self) -> Mapping[str, int]:
        """All topics but Kafka's own, asked of the cluster now. Raises BrokerUnavailableError."""
        return await partition_counts(self._connected())

    def _connected(self) -> AIOKafkaClient:
        if self._client is None:
            raise BrokerUnavailableError("the reader is not started")
        return self._client

    def _take(self, readings: Iterable[_Reading], records_max: int) -> list[Record]:
        records: list[Record] = []
        for reading in readings:
            fetched = reading.fetched
            if fetched is None:
                continue
            if len(records) >= records_max:
                break
            records += fetched.take(records_max - len(records))
            reading.position = fetched.next_offset
            if fetched.exhausted:
                reading.fetched = None
                if fetched.failure is not None:
                    self._trouble = str(fetched.failure)
            # Served last next time, so that one busy partition cannot hold up the others.
            self._readings[reading.topic_partition] = self._readings.pop(reading.topic_partition)
        return records

    def _begin_fetches(self, considered: Iterable[_Reading]) -> None:
        client = self._connected()
        by_node: dict[int, list[_Reading]] = {}
        leaderless = some_fetched = False
        for reading in considered:
            if not reading.wants_fetch:
                some_fetched = some_fetched or reading.fetched is not None
                continue
            node_id = client.cluster.leader_for_partition(reading.topic_partition)
            if node_id is None or node_id == -1:
                leaderless = True
            else:
                by_node.setdefault(node_id, []).append(reading)
        # While records wait in memory the broker shall answer at once: a fetch that it holds back does not ask for
        # their partitions, and new records there would be seen only after it.
        wait_ms = 0 if some_fetched else FETCH_WAIT_MAX_MS
        for node_id, readings in by_node.items():
            if node_id not in self._fetches:
                task = asyncio.create_task(self._fetch(client, node_id, readings, wait_ms))
                self._fetches[node_id] = task
        if leaderless and self._metadata_refresh is None:
            self._metadata_refresh = asyncio.create_task(self._refresh_metadata(client))

    def _raise_what_is_wrong(self, considered: Iterable[_Reading]) -> None:
        for reading in considered:
            if reading.out_of_range:
                raise OffsetOutOfRangeError(reading.topic_partition, reading.position)
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise BrokerUnavailableError(trouble)

    async def _refresh_metadata(self, client: AIOKafkaClient) -> None:
        try:
            if not await client.force_metadata_update():
                self._trouble = f"no broker of {self._kafka} tells which broker leads the partitions"
            for topic in client.cluster.unauthorized_topics & {tp.topic for tp in self._readings}:
                self._trouble = denied(self._kafka, TopicAuthorizationFailedError, "READ", f"topic {topic}")
            if any(client.cluster.leader_for_partition(tp) in (None, -1) for tp in self._readings):
                await asyncio.sleep(LEADERLESS_BACKOFF_S)
        finally:
            self._metadata_refresh = None

    async def _fetch(self, client: AIOKafkaClient, node_id: int, readings: Sequence[_Reading], wait_ms: int) -> None:
        try:
            if not await self._fetch_once(client, node_id, readings, wait_ms):
                await asyncio.sleep(RETRY_BACKOFF_S)
        except Exception as error:  # a defect, here or in the client's decoding: to be told, not repeated at full speed
            self._trouble = f"what broker {node_id} answers cannot be read: {error!r}"
            await asyncio.sleep(RETRY_BACKOFF_S)
        finally:
            if self._fetches.get(node_id) is asyncio.current_task():
                del self._fetches[node_id]

    async def _fetch_once(
        self, client: AIOKafkaClient, node_id: int, readings: Sequence[_Reading], wait_ms: int
    ) -> bool:
        """Fetch and keep what comes. False: something went wrong, wait a little."""
        asked = {reading.topic_partition: (reading, reading.position) for reading in readings}
        by_topic: dict[str, list[tuple[int, int, int]]] = {}
        for (topic, partition), (_, offset) in asked.items():
            by_topic.setdefault(topic, []).append((partition, offset, PARTITION_FETCH_BYTES_MAX))
        request = FetchRequest(wait_ms, 1, FETCH_BYTES_MAX, _READ_COMMITTED, list(by_topic.items()))
        try:
            # On a connection of its own: requests of one connection are answered in order, so a fetch that the broker
            # holds back would hold up questions for offsets and metadata too.
            response = await client.send(node_id, request, group=ConnectionGroup.COORDINATION)
        except KafkaError as error:
            self._trouble = f"broker {node_id} does not answer: {error!r}"
            if self._kafka.security.protocol != "PLAINTEXT":  # it may have stopped to let us in
                refused = await unreachable(self._kafka, error)
                self._trouble = str(refused) if isinstance(refused, AccessDeniedError) else self._trouble
            client.force_metadata_update()
            return False
        sound = True
        for topic, partitions in response.topics:
            for partition, error_code, _, stable_end, *more in partitions:
                aborted, message_set = _ABORTED_AND_MESSAGES[response.API_VERSION >= 11](more)
                reading, offset = asked[TopicPartition(topic, partition)]
                if self._readings.get(reading.topic_partition) is not reading:
                    continue  # assigned anew meanwhile
                assert reading.position == offset
                sound &= self._keep(client, reading, for_code(error_code), stable_end, aborted, message_set)
        return sound

    def _keep(
        self,
        client: AIOKafkaClient,
        reading: _Reading,
        error: type[Exception],
        stable_end: int,
        aborted: Sequence[tuple[int, int]] | None,
        message_set: bytes | None,
    ) -> bool:
        if error is NoError:
            reading.stable_end = stable_end
            fetched = FetchedRecords(reading.topic_partition, message_set or b"", aborted, reading.position)
            if not fetched.exhausted:
                reading.fetched = fetched
            return True
        if error is KafkaOffsetOutOfRangeError:
            reading.out_of_range = True
            return True
        if error in _MOVED:
            reading.disowned = True
            client.force_metadata_update()
        else:
            topic = reading.topic_partition.topic
            want = denied(self._kafka, error, "READ", f"topic {topic}")
            self._trouble = want or f"{reading.topic_partition} cannot be read: {error.__name__}"
        return False
