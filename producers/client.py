"""The client that an app opens once: publish commands, and wait for what becomes of them."""

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaServers
from ledger.broker.protocol import BrokerUnavailableError
from ledger.broker.tail_reader import TailReader
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.messages.topics import Topics
from producers.command_request import CommandRequest, PreparedCommand, prepare
from producers.connection import Connection, KafkaConnection
from producers.errors import ClientClosed, KafkaUnavailable, LedgerError, TopicUnusable
from producers.outcome import Outcome, Published
from producers.outcome_follower import OutcomeFollower
from producers.outcome_wait import OutcomeWait
from producers.reopening_publisher import ReopeningPublisher
from producers.send_queue import Sending, SendQueue

PUBLISH_WAIT_S: Final = 10.0
"""How long a command may wait for room in the buffer, and then for Kafka, before the call fails."""

OUTCOME_WAIT_S: Final = 10.0
"""How long `submit` waits for the outcome before it raises OutcomeUnknown."""

CLOSE_WAIT_S: Final = 10.0
"""How long leaving `async with` waits for the commands that are still on their way."""

ADMITTED_AT_ONCE_MAX: Final = 1_000
"""Commands of one batch call that are checked and queued between two looks at the event loop."""

SLICES_AWAITED_MAX: Final = 4
"""So many times `ADMITTED_AT_ONCE_MAX` outcomes of one batch call are waited for at a time."""

_NOT_OPEN: Final = "the client is not open: use it inside `async with LedgerClient(...) as ledger:`"

Result = TypeVar("Result")


class LedgerClient:
    """An app's way to the ledger. Open it once, share it among all tasks of one event loop.

    Example:
        async with LedgerClient(app="shop", kafka_bootstrap_servers="localhost:9092") as ledger:
            outcome = await ledger.submit("CREDIT_SPEND", owner_id="user-42", nonce="order-1001", amount=-250)
            print(outcome.balance)
    """

    def __init__(
        self,
        app: str,
        kafka_bootstrap_servers: str | None = None,
        *,
        security: KafkaSecurity = NO_SECURITY,
        topic_prefix: str = "ledger",
        publish_wait_s: float = PUBLISH_WAIT_S,
        outcome_wait_s: float = OUTCOME_WAIT_S,
        connection: Connection | None = None,
    ) -> None:
        """No I/O: the connection is made by `async with`.

        Args:
            app: the app's name as the ledger knows it; its commands go to the topic `ledger.commands.<app>`.
            kafka_bootstrap_servers: `host:port[,host:port]`.
            security: how Kafka is spoken to, and as whom.
            topic_prefix: first part of the ledger's topic names.
            publish_wait_s: see `PUBLISH_WAIT_S`.
            outcome_wait_s: see `OUTCOME_WAIT_S`.
            connection: instead of `kafka_bootstrap_servers`, for tests.
        """
        if connection is None:
            if not kafka_bootstrap_servers:
                raise ValueError("name Kafka's address: LedgerClient(app=..., kafka_bootstrap_servers='host:port')")
            kafka = KafkaServers(kafka_bootstrap_servers, security)
            connection = KafkaConnection(kafka, client_id=f"{app}-producer")
        self.app: Final = app
        self.topics: Final = Topics(topic_prefix)
        self._connection = connection
        self._publish_wait_s = publish_wait_s
        self._outcome_wait_s = outcome_wait_s
        self._partitions = 0
        self._publisher: ReopeningPublisher | None = None
        self._queue: SendQueue | None = None
        self._follower: OutcomeFollower | None = None

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            KafkaUnavailable: Kafka does not answer.
            TopicUnusable: the app has no command topic.
        """
        assert self._queue is None, "the client is open already"
        topic = self.topics.commands(self.app)
        try:
            counts = await self._connection.partition_counts()
        except BrokerUnavailableError as error:
            raise KafkaUnavailable(str(error)) from error
        if topic not in counts:
            raise TopicUnusable(
                f"there is no topic {topic}: register the app {self.app!r} with the ledger and run `ledger topics "
                "sync`; or Kafka does not let this client see it: `ledger topics sync --acls`"
            )
        self._partitions = counts[topic]
        self._publisher = ReopeningPublisher(self._connection.publisher)
        self._publisher.start()
        self._queue = SendQueue(topic, self._publisher, self._partitions)
        self._follower = OutcomeFollower(self.app, self._make_tail)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send what is on its way, within `CLOSE_WAIT_S`, and disconnect."""
        queue, self._queue = self._queue, None
        publisher, self._publisher = self._publisher, None
        follower, self._follower = self._follower, None
        if queue is not None:
            await queue.close(CLOSE_WAIT_S)
        if publisher is not None:
            await publisher.stop()
        if follower is not None:
            await follower.close()

    @property
    def trouble(self) -> str | None:
        """What keeps the client from publishing now, for health checks; None when nothing does."""
        return "the client is not open" if self._publisher is None else self._publisher.trouble

    async def probe_kafka(self) -> None:
        """Ask Kafka anything, for health checks.

        Raises:
            KafkaUnavailable: it does not answer.
        """
        try:
            await self._connection.partition_counts()
        except BrokerUnavailableError as error:
            raise KafkaUnavailable(str(error)) from error

    async def publish(
        self,
        operation: str,
        owner_id: str,
        nonce: str,
        amount: int | None = None,
        *,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
        not_after: datetime | None = None,
        command_id: UUID | None = None,
        issued_at: datetime | None = None,
    ) -> Published:
        """Publish one command; return when all in-sync replicas have it. See `CommandRequest` for the arguments.

        Of two calls made one after another, even without awaiting the first, the second gets the higher offset on the
        partition of the owner, unless one of them fails.

        Raises:
            InvalidCommand, ClientClosed, NotPublished: nothing was sent.
            PublishInDoubt: perhaps it was: call again with the `command_id` of the exception.
        """
        request = CommandRequest(
            operation, owner_id, nonce, amount, credit_type, metadata, not_after, command_id, issued_at
        )
        queue = self._open_queue()
        [sending] = await queue.put([self._prepare(request)], self._publish_wait_s)
        try:
            return await sending.done
        except asyncio.CancelledError:
            queue.withdraw(sending)
            raise

    async def publish_many(self, requests: Iterable[CommandRequest]) -> list[Published | LedgerError]:
        """Publish commands in this order; for each, in the same order, its place or the error that `publish` would
        raise. One command's failure stops no other."""
        queue = self._open_queue()
        results: list[asyncio.Future[Published] | LedgerError] = []
        sendings: list[Sending] = []
        try:
            for slice_ in _slices(requests):
                prepared = [self._prepared_or_error(request) for request in slice_]
                admitted = await queue.put(
                    [command for command in prepared if isinstance(command, PreparedCommand)], self._publish_wait_s
                )
                sendings += admitted
                places = iter([sending.done for sending in admitted])
                results += [entry if isinstance(entry, LedgerError) else next(places) for entry in prepared]
            return await _collected(results)
        except asyncio.CancelledError:
            for sending in sendings:
                queue.withdraw(sending)
            raise

    async def submit(
        self,
        operation: str,
        owner_id: str,
        nonce: str,
        amount: int | None = None,
        *,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
        not_after: datetime | None = None,
        command_id: UUID | None = None,
        issued_at: datetime | None = None,
        wait_s: float | None = None,
    ) -> Outcome:
        """Publish one command and wait, up to `wait_s`, for what becomes of it.

        While there is no answer the same bytes are sent again, after 1, 2, 4 ... seconds; nothing happens twice.

        Raises:
            CommandRejected: the ledger refused; the class says why (InsufficientCredits, DuplicateNonce, ...).
            InvalidCommand, ClientClosed, KafkaUnavailable, NotPublished: nothing was sent.
            OutcomeUnknown: it was sent, and the answer did not come in time; PublishInDoubt: perhaps it was sent.
                Call again with the `command_id` of the exception.
        """
        request = CommandRequest(
            operation, owner_id, nonce, amount, credit_type, metadata, not_after, command_id, issued_at
        )
        limit = self._outcome_wait_s if wait_s is None else wait_s
        queue = self._open_queue()
        prepared = self._prepare(request)
        wait = OutcomeWait(queue, self._open_follower(), prepared, limit)
        await wait.register()
        try:
            [sending] = await queue.put([prepared], limit)
        except asyncio.CancelledError:
            wait.abandon()
            raise
        return await wait.outcome(sending)

    async def submit_many(
        self, requests: Iterable[CommandRequest], *, wait_s: float | None = None
    ) -> list[Outcome | LedgerError]:
        """Publish commands in this order and wait for all outcomes; for each, in the same order, the entry or the
        error that `submit` would raise. `wait_s` counts for each command from when it was its turn to be sent."""
        limit = self._outcome_wait_s if wait_s is None else wait_s
        queue, follower = self._open_queue(), self._open_follower()
        under_way: deque[list[asyncio.Future[Outcome] | LedgerError]] = deque()
        collected: list[Outcome | LedgerError] = []
        waits: list[OutcomeWait | LedgerError] = []
        try:
            for slice_ in _slices(requests):
                if len(under_way) >= SLICES_AWAITED_MAX:
                    # At once, not at the end: a million tasks that are done would keep the garbage collector busy.
                    finished = await _collected(under_way[0])
                    collected += finished
                    under_way.popleft()
                waits = []
                for request in slice_:
                    waits.append(await self._registered_or_error(request, queue, follower, limit))
                started = [wait for wait in waits if isinstance(wait, OutcomeWait)]
                sendings = await queue.put([wait.prepared for wait in started], limit)
                tasks = iter(
                    [
                        asyncio.create_task(wait.outcome(sending))
                        for wait, sending in zip(started, sendings, strict=True)
                    ]
                )
                under_way.append([wait if isinstance(wait, LedgerError) else next(tasks) for wait in waits])
            while under_way:
                finished = await _collected(under_way[0])
                collected += finished
                under_way.popleft()
        except asyncio.CancelledError:
            for results in under_way:
                for result in results:
                    if isinstance(result, asyncio.Future):
                        result.cancel()
            for wait in waits:
                if isinstance(wait, OutcomeWait):
                    wait.abandon()
            raise
        return collected

    async def follow_outcomes(self, limit_s: float = OUTCOME_WAIT_S) -> None:
        """Begin to read the ledger's answers now, rather than at the first `submit`.

        Raises:
            KafkaUnavailable: not within the limit.
        """
        await self._open_follower().follow(limit_s)

    async def _registered_or_error(
        self, request: CommandRequest, queue: SendQueue, follower: OutcomeFollower, limit_s: float
    ) -> OutcomeWait | LedgerError:
        try:
            wait = OutcomeWait(queue, follower, self._prepare(request), limit_s)
            await wait.register()
        except LedgerError as error:
            return error
        return wait

    def _make_tail(self) -> TailReader:
        return TailReader(self._connection.reader(), self.topics, self._partitions)

    def _open_follower(self) -> OutcomeFollower:
        if self._follower is None:
            raise ClientClosed(_NOT_OPEN)
        return self._follower

    def _open_queue(self) -> SendQueue:
        if self._queue is None:
            raise ClientClosed(_NOT_OPEN)
        return self._queue

    def _prepare(self, request: CommandRequest) -> PreparedCommand:
        return prepare(request, self.app, self._partitions)

    def _prepared_or_error(self, request: CommandRequest) -> PreparedCommand | LedgerError:
        try:
            return self._prepare(request)
        except LedgerError as error:
            return error


def _slices(requests: Iterable[CommandRequest]) -> Iterator[list[CommandRequest]]:
    rest = iter(requests)
    while slice_ := list(islice(rest, ADMITTED_AT_ONCE_MAX)):
        yield slice_


async def _collected(results: Sequence["asyncio.Future[Result] | LedgerError"]) -> list[Result | LedgerError]:
    pending = [result for result in results if isinstance(result, asyncio.Future)]
    if pending:
        await asyncio.wait(pending)
    collected: list[Result | LedgerError] = []
    for result in results:
        if not isinstance(result, asyncio.Future):
            collected.append(result)
            continue
        error = result.exception()
        if error is not None and not isinstance(error, LedgerError):
            raise error
        collected.append(result.result() if error is None else error)
    return collected
