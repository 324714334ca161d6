"""Membership in a consumer group that only shares out partition numbers (FACTS: aiokafka)."""

import asyncio
import logging
from collections.abc import Collection
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka import TopicPartition as KafkaTopicPartition
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError

from ledger.broker.assignment_board import LOOP_STALL_LIMIT_S, AssignmentBoard
from ledger.broker.bounded import finish_within
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import HEARTBEAT_INTERVAL_MS, SESSION_TIMEOUT_MS, BrokerUnavailableError
from ledger.broker.refusals import denied, unreachable

POLL_MS: Final = 500
"""The group's own polls, which find nothing: they show aiokafka that somebody is there and take out its errors."""

REQUEST_TIMEOUT_MS: Final = 12_000
"""Above the time a join may take, which is the session timeout."""

METADATA_AGE_MAX_MS: Final = 30_000
START_LIMIT_S: Final = 10.0
REJOIN_LIMIT_S: Final = 15.0
LEAVE_LIMIT_S: Final = 3.0
JOIN_BACKOFF_S: Final = 1.0

_log = logging.getLogger(__name__)


class KafkaMembership:
    """Membership on a real cluster. See the protocol for what each method promises."""

    def __init__(
        self,
        kafka: KafkaServers | str,
        group_id: str,
        topic: str,
        *,
        loop_stall_limit_s: float = LOOP_STALL_LIMIT_S,
        client_id: str = "ledger-member",
    ) -> None:
        self._kafka = KafkaServers.of(kafka)
        self._group_id = group_id
        self._topic = topic
        self._client_id = client_id
        self._loop_stall_limit_s = loop_stall_limit_s
        self._board = AssignmentBoard()
        self._supervisor: asyncio.Task[None] | None = None
        self._leave_wanted = asyncio.Event()
        self._joined = asyncio.Event()
        self.changed = self._board.changed
        self.turned = self._board.turned
        self.batch_began = self._board.batch_began
        self.batch_ended = self._board.batch_ended

    @property
    def wanted(self) -> frozenset[int] | None:
        """The partition numbers assigned now; None during a rebalance and while not in the group."""
        return self._board.wanted

    @property
    def generation(self) -> int:
        """Rises with every assignment."""
        return self._board.generation

    async def start(self) -> None:
        """Connect and begin to join. Raises BrokerUnavailableError; may be called again then."""
        consumer, listener = await self._join()
        self._supervisor = asyncio.create_task(self._supervise(consumer, listener))

    async def stop(self) -> None:
        """Leave, within twice LEAVE_LIMIT_S, without waiting for a batch in hand; never raises."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor], timeout=2 * LEAVE_LIMIT_S)

    async def rejoin(self) -> None:
        """Leave and begin to join again, within REJOIN_LIMIT_S; goes on trying in the background after that."""
        self._board.turned()  # whoever calls this turns, and may have been left for a stall
        self._board.withdraw()
        self._joined.clear()
        self._leave_wanted.set()
        await finish_within(REJOIN_LIMIT_S, self._joined.wait())

    async def _supervise(self, consumer: AIOKafkaConsumer, listener: "_Listener") -> None:
        """Stay in the group; leave and join again when the loop stalls, `rejoin` is called or aiokafka gives up."""
        while True:
            try:
                self._joined.set()
                why_left = await self._stay(consumer)
            finally:
                listener.active = False
                self._board.withdraw()
                await _leave(consumer)
            _log.warning("left group %s: %s", self._group_id, why_left)
            if why_left == _STALLED:
                await self._board.next_turn()
            while True:
                try:
                    consumer, listener = await self._join()
                    break
                except BrokerUnavailableError as error:
                    _log.warning("group %s cannot be joined: %s", self._group_id, error)
                    await asyncio.sleep(JOIN_BACKOFF_S)

    async def _stay(self, consumer: AIOKafkaConsumer) -> str:
        """Poll until there is a reason to leave, and return it."""
        # Tasks of their own: during a rebalance a poll waits without limit, and the loop is watched meanwhile.
        self._board.expect_turns()
        self._leave_wanted.clear()  # this is a new membership, which is all that was wanted
        polling = asyncio.create_task(_poll_without_end(consumer))
        leave_wanted = asyncio.create_task(self._leave_wanted.wait())
        stalled = asyncio.create_task(self._board.stalled(self._loop_stall_limit_s))
        reasons: set[asyncio.Task[Any]] = {polling, leave_wanted, stalled}
        try:
            await asyncio.wait(reasons, return_when=asyncio.FIRST_COMPLETED)
            if leave_wanted.done():
                return "to join again"
            if stalled.done():
                return _STALLED
            await asyncio.sleep(JOIN_BACKOFF_S)
            error = polling.exception()
            want = denied(self._kafka, error, "READ", f"group {self._group_id} and topic {self._topic}")
            return want or f"its member failed: {error!r}"
        finally:
            for task in reasons:
                task.cancel()

    async def _join(self) -> tuple[AIOKafkaConsumer, "_Listener"]:
        consumer = AIOKafkaConsumer(
            client_id=self._client_id,
            group_id=self._group_id,
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            rebalance_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=METADATA_AGE_MAX_MS,
            **self._kafka.client_settings(),
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await consumer.start()
        except (KafkaError, TimeoutError) as error:
            await _leave(consumer)
            raise await unreachable(self._kafka, error) from error
        listener = _Listener(consumer, self._board)
        consumer.subscribe([self._topic], listener=listener)
        return consumer, listener


_STALLED: Final = "the ledger loop does not turn"


class _Listener(ConsumerRebalanceListener):
    """Writes what the group decides onto the board. `active` is False once its consumer was left."""

    def __init__(self, consumer: AIOKafkaConsumer, board: AssignmentBoard) -> None:
        self._consumer = consumer
        self._board = board
        self.active = True

    def on_partitions_assigned(self, assigned: Collection[KafkaTopicPartition]) -> None:
        # Paused before any await: the group reads nothing. A plain function, so aiokafka cannot be interrupted here.
        self._consumer.pause(*assigned)
        if self.active:
            self._board.assign(topic_partition.partition for topic_partition in assigned)

    async def on_partitions_revoked(self, revoked: Collection[KafkaTopicPartition]) -> None:
        if self.active:
            await self._board.revoke()


async def _poll_without_end(consumer: AIOKafkaConsumer) -> None:
    while True:
        await consumer.getmany(timeout_ms=POLL_MS)


async def _leave(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and disconnect, within LEAVE_LIMIT_S."""
    if await finish_within(LEAVE_LIMIT_S / 2, consumer.stop()):
        return
    # It hangs in a request of its own (a join waits for all other members): leave without it, so that the others do
    # not wait for the session timeout.
    if consumer._coordinator is not None:
        await finish_within(LEAVE_LIMIT_S / 4, consumer._coordinator._maybe_leave_group())
    await finish_within(LEAVE_LIMIT_S / 4, consumer._client.close())
