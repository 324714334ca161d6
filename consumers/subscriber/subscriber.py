"""What an app uses: handlers of ledger events, on FastStream."""

import asyncio
import logging
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from faststream import AckPolicy, FastStream
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.message import FAKE_CONSUMER

from consumers.subscriber.assignment import Assignment, Start, utc_now
from consumers.subscriber.consumption import Consumption
from consumers.subscriber.delivery import Delivery, RetryPolicy
from consumers.subscriber.errors import SubscriberHaltedError, TopicsNotReadyError
from consumers.subscriber.faststream_security import faststream_security
from consumers.subscriber.handlers import Handler, Handlers, Route
from consumers.subscriber.in_memory import InMemoryEvents
from consumers.subscriber.kafka_parking_log import CLIENT_ID, KafkaParkingLog
from consumers.subscriber.lane import Lane
from consumers.subscriber.parking import ParkedPartition
from consumers.subscriber.sequence_guard import SequenceGuard
from ledger.broker.bounded import finish_within
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaServers
from ledger.broker.protocol import AccessDeniedError
from ledger.broker.refusals import denied, unreachable
from ledger.domain.limits import APP_PATTERN
from ledger.messages.topics import Topics

OnFailure = Literal["park", "halt"]

POLL_LIMIT_S: Final = 300.0
"""A member that has not polled for so long loses its partitions."""

BATCH_BUDGET_S: Final = 60.0
"""After so long a batch is left and the rest of it polled again."""

BATCH_RECORDS_MAX: Final = 500
EMPTY_POLL_MS: Final = 20
"""FastStream waits this long in an empty poll and once more after it: the most that it adds to an event's latency."""

SESSION_TIMEOUT_MS: Final = 10_000
HEARTBEAT_INTERVAL_MS: Final = 1_000
"""A member learns of a rebalance by its next heartbeat."""

REBALANCE_LIMIT_S: Final = 60.0
"""How long a rebalance waits for a member that still handles an event."""

REVOKE_LIMIT_S: Final = 20.0
"""How long an event in hand may take when its partition is taken away or the subscriber stops; then it is cancelled."""

STOP_LIMIT_S: Final = 10.0
"""How long leaving Kafka may take once nothing is in hand; without Kafka it has no end."""

METADATA_AGE_MAX_MS: Final = 30_000

_faststream_log: Final = logging.getLogger(f"{__name__}.faststream")
"""Not the logger "faststream", which has handlers of its own."""


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    """One assigned partition. `sequence` is the last event disposed of, None if there is none yet."""

    partition: int
    sequence: int | None
    parked_owners: int
    halted: str | None


class LedgerSubscriber:
    """Gives ledger events to an app's handlers: at least once, in order per owner, one at a time.

    Use it as `async with subscriber:` (in a FastAPI lifespan, say), as a program by `await subscriber.run()`, or
    through FastStream by `subscriber.faststream_app()`. What it promises, and what handlers must do:
    docs/guide-subscribing.md.
    """

    def __init__(
        self,
        *,
        app: str,
        group: str,
        kafka_bootstrap_servers: str,
        on_failure: OnFailure,
        start: Start,
        topics: Topics | None = None,
        retries: RetryPolicy | None = None,
        security: KafkaSecurity = NO_SECURITY,
    ) -> None:
        """
        Args:
            app: The app whose parked topic is used.
            group: Name of the consumer group; its members share the partitions. By custom `APP.WHAT-IT-DOES`.
            kafka_bootstrap_servers: `host:port[,host:port]`.
            on_failure: After the last attempt, `park` the event and the owner's later ones, or `halt` the partition.
            start: Where a group that has never run starts: at the `beginning` of history, or with what happens from
                `now` on.
            topics: Names of topics, if not under the prefix `ledger`.
            retries: How often a failing handler is tried.
            security: How Kafka is spoken to, and as whom.

        Raises:
            KafkaSecurityError: a file of certificates cannot be used.
            ValueError: `app` is no app's name, or the retries could take longer than Kafka lets a consumer be silent.
        """
        if not re.match(APP_PATTERN, app):
            raise ValueError(f"not the name of an app: {app!r}")
        retries = retries or RetryPolicy()
        if BATCH_BUDGET_S + retries.worst_case_s >= POLL_LIMIT_S:
            raise ValueError(
                f"{retries} can take {retries.worst_case_s:g} s; allowed are {POLL_LIMIT_S - BATCH_BUDGET_S:g} s"
            )
        self._app = app
        self._group = group
        self._kafka = KafkaServers(kafka_bootstrap_servers, security)
        self._topics = topics or Topics()
        self._park_failures = on_failure == "park"
        self._retries = retries
        self._handlers = Handlers()
        self._delivery = Delivery(retries)
        self._consumption = Consumption(self._delivery, batch_budget_s=BATCH_BUDGET_S)
        self._admin: AIOKafkaAdminClient | None = None
        self._parking_log = KafkaParkingLog(self._topics.parked(app), lambda: KafkaPublisher(self._kafka, CLIENT_ID))
        self._assignment = Assignment(
            self._consumption,
            self._delivery,
            group=group,
            start=start,
            events_topic=self._topics.events,
            parked_topic=self._topics.parked(app),
            revoke_limit_s=REVOKE_LIMIT_S,
            consumer=self._consumer,
            admin=self._connected_admin,
            new_lane=self._new_lane,
        )
        self.broker = self._new_broker()
        """FastStream's broker, for middlewares and documents. It publishes nothing."""

    def on(
        self,
        type: str | None = None,
        *,
        app: str | None = None,
        operation: str | None = None,
        credit_type: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Declare the decorated async function as a handler of the events that agree with what is given.

        An event that several handlers want is given to them in the order of declaration.

        Args:
            type: `entry_posted` or `command_rejected`; None for every type, also those that do not exist yet.
            app: The app that published the command.
            operation: The command's operation.
            credit_type: The account's credit type.
        """

        def declare(handler: Handler) -> Handler:
            self._handlers.add(Route(handler, type, app, operation, credit_type))
            return handler

        return declare

    async def __aenter__(self) -> "LedgerSubscriber":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Join the group; events are handled from now on.

        Raises:
            TopicsNotReadyError: a topic is missing or has another size.
            AccessDeniedError: Kafka lets this client not in, or not into the group.
            BrokerUnavailableError: Kafka does not answer.
        """
        await self._open()
        try:
            await self.broker.start()
        except KafkaError as error:
            await self.stop()
            want = denied(self._kafka, error, "READ", f"group {self._group}")
            raise (AccessDeniedError(want) if want else await unreachable(self._kafka, error)) from error
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Finish the event in hand within a limit, commit, and leave the group; within limits also without Kafka."""
        await self._finish()
        await finish_within(STOP_LIMIT_S, self.broker.stop())
        await self._close()

    async def run(self) -> None:
        """Run until SIGTERM or cancelled: a program of its own.

        Raises:
            SubscriberHaltedError: a partition was halted. Ending the program makes it seen; a restart tries again.
        """
        stopped = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
        try:
            async with self:
                halted = asyncio.ensure_future(self.wait_halted())
                stopping = asyncio.ensure_future(stopped.wait())
                try:
                    await asyncio.wait({halted, stopping}, return_when=asyncio.FIRST_COMPLETED)
                    if halted.done():
                        raise halted.result()
                finally:
                    halted.cancel()
                    stopping.cancel()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    def faststream_app(self) -> FastStream:
        """A FastStream application of this subscriber, for `faststream run` and its documents."""
        return FastStream(
            self.broker, on_startup=[self._open], on_shutdown=[self._finish], after_shutdown=[self._close]
        )

    async def wait_halted(self) -> SubscriberHaltedError:
        """Wait until a partition is halted, and return why. The other partitions go on."""
        return await self._consumption.wait_halted()

    @property
    def halts(self) -> Mapping[int, SubscriberHaltedError]:
        """The halted partitions of this member and why: belongs into an app's health check."""
        return self._consumption.halts

    @property
    def health(self) -> Sequence[PartitionHealth]:
        """The partitions that this member works on."""
        return [
            PartitionHealth(
                number,
                assigned.lane.guard.last.sequence if assigned.lane.guard.last else None,
                sum(1 for _ in assigned.lane.parked.owners),
                assigned.halted.why if assigned.halted else None,
            )
            for number, assigned in sorted(self._consumption.partitions.items())
        ]

    def in_memory(self) -> InMemoryEvents:
        """The same handlers without Kafka, for an app's unit tests."""
        return InMemoryEvents(self._handlers, group=self._group, park_failures=self._park_failures)

    async def _open(self) -> None:
        needed = (self._topics.events, self._topics.parked(self._app))
        async with KafkaTopicAdmin(self._kafka, CLIENT_ID) as topic_admin:
            counts = await topic_admin.partition_counts()
        missing = [name for name in needed if name not in counts]
        if missing:
            raise TopicsNotReadyError(
                f"no topic {' and no topic '.join(missing)}: run `ledger topics sync`; or Kafka does not let "
                f"{self._kafka.security.principal} see it: `ledger topics sync --acls`"
            )
        if len({counts[name] for name in needed}) > 1:
            sizes = " and ".join(f"{name} has {counts[name]} partitions" for name in needed)
            raise TopicsNotReadyError(f"{sizes}, but an owner must lie on the same one: see `ledger topics check`")
        admin = AIOKafkaAdminClient(client_id=CLIENT_ID, **self._kafka.client_settings())
        await admin.start()
        self._admin = admin

    async def _finish(self) -> None:
        self._assignment.cancel()
        await self._consumption.finish(REVOKE_LIMIT_S)
        if self._faststream_subscriber.consumer is not None:
            await self._consumption.commit(self._consumer())
        self._consumption.partitions.clear()

    async def _close(self) -> None:
        await self._parking_log.stop()
        admin, self._admin = self._admin, None
        if admin is not None:
            await finish_within(STOP_LIMIT_S, admin.close())

    def _new_broker(self) -> KafkaBroker:
        # Everything that FastStream would choose otherwise is stated: it defaults to the latest offset, to committing
        # before handling, to round robin, to creating topics, and to a producer without idempotence (here: none).
        broker = KafkaBroker(
            self._kafka.bootstrap_servers,
            security=faststream_security(self._kafka.security),
            client_id=CLIENT_ID,
            consumer_only=True,
            allow_auto_create_topics=False,
            enable_idempotence=True,
            acks="all",
            metadata_max_age_ms=METADATA_AGE_MAX_MS,
            ack_policy=AckPolicy.MANUAL,
            graceful_timeout=REVOKE_LIMIT_S,
            apply_types=False,
            logger=_faststream_log,
            log_level=logging.DEBUG,
        )
        self._faststream_subscriber = broker.subscriber(
            self._topics.events,
            self._topics.parked(self._app),
            group_id=self._group,
            ack_policy=AckPolicy.MANUAL,
            # Only for an offset that vanishes while we run: everything is recognised by the guard then. Where to begin
            # is decided by the assignment.
            auto_offset_reset="earliest",
            # One assignor, and the one that gives partition n of both topics to the same member.
            partition_assignment_strategy=(RangePartitionAssignor,),
            isolation_level="read_committed",
            max_poll_interval_ms=int(POLL_LIMIT_S * 1000),
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            rebalance_timeout_ms=int(REBALANCE_LIMIT_S * 1000),
            listener=self._assignment,
            # Batches cost 2 us a record and single messages 50 to 150: an app passes over most events of a ledger.
            batch=True,
            batch_timeout_ms=EMPTY_POLL_MS,
            max_records=BATCH_RECORDS_MAX,
            max_workers=1,
            no_reply=True,
            parser=_parse,
            decoder=_decode,
            title=f"Events for {self._group}",
        )

        self._faststream_subscriber(self._take_ledger_events)
        return broker

    async def _take_ledger_events(self, records: tuple[ConsumerRecord[Any, Any], ...]) -> None:
        await self._consumption.take_batch(self._consumer(), records)

    def _consumer(self) -> AIOKafkaConsumer:
        consumer = self._faststream_subscriber.consumer
        assert consumer is not None, "the subscriber is started"
        return consumer

    def _connected_admin(self) -> AIOKafkaAdminClient:
        assert self._admin is not None, "the subscriber is started"
        return self._admin

    def _new_lane(self, partition: int, guard: SequenceGuard) -> Lane:
        return Lane(
            partition,
            group=self._group,
            guard=guard,
            handlers=self._handlers,
            delivery=self._delivery,
            parked=ParkedPartition(self._group),
            parking_log=self._parking_log,
            park_failures=self._park_failures,
            now=utc_now,
        )


async def _parse(records: tuple[ConsumerRecord[Any, Any], ...]) -> KafkaMessage:
    # FastStream's own parser decodes headers, and one that is null or not UTF-8 loses the whole batch.
    return KafkaMessage(
        body=b"", headers={}, raw_message=records, consumer=FAKE_CONSUMER, message_id="", correlation_id=""
    )


async def _decode(message: KafkaMessage) -> Any:
    return message.raw_message
