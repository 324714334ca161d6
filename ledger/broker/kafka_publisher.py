"""Publishing to Kafka with an idempotent producer whose life ends at its first failure."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from ledger.broker.bounded import finish_within
from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import AccessDeniedError, OutgoingRecord, PublishError
from ledger.broker.refusals import denied, unreachable

BATCH_BYTES_MAX: Final = 900 * 2**10
"""One request per broker is under way at a time, so its size decides the throughput (FACTS: 800,000 records/s). It
holds the events of the largest batch of commands (1,000 are 700 KB), below the largest that brokers take unless told
otherwise (1 MiB): readers see them at once, and a projection worker commits them once instead of three times
(cpu_us_per_command_projector 8 instead of 10). A larger record becomes a batch of its own; whether the topic takes it
is for the broker to say."""

ACKNOWLEDGE_LIMIT_S: Final = 10.0
"""An idempotent send is repeated without end while brokers are away; after this long we give up on one batch."""

REQUEST_TIMEOUT_MS: Final = 5_000
METADATA_AGE_MAX_MS: Final = 30_000
START_LIMIT_S: Final = 10.0
STOP_LIMIT_S: Final = 3.0


_ABANDONED: Final[set[asyncio.Future[None]]] = set()
"""Producers whose start was cancelled, being closed: the loop alone would not keep their tasks from being collected."""


class KafkaPublisher:
    """Publisher on a real cluster. See the protocol for what each method promises."""

    def __init__(self, kafka: KafkaServers | str, client_id: str = "ledger-publisher") -> None:
        self._kafka = KafkaServers.of(kafka)
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None
        self._failure: PublishError | None = None
        self._ended: asyncio.Future[None] | None = None
        """Done with the first failure, so that publications under way do not wait for their limit."""
        self._abandoning: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Connect and get a producer id. Raises BrokerUnavailableError; may be called again then."""
        producer = AIOKafkaProducer(
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            max_batch_size=BATCH_BYTES_MAX,
            linger_ms=0,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=METADATA_AGE_MAX_MS,
            **self._kafka.client_settings(),
        )
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await producer.start()
        except (KafkaError, TimeoutError) as error:
            await _abandon(producer)
            want = denied(self._kafka, error, "WRITE", "any topic")
            if want is not None:  # brokers give a producer id only to whoever may write something
                raise AccessDeniedError(want) from error
            raise await unreachable(self._kafka, error) from error
        except asyncio.CancelledError:
            # Whoever is cancelled does not wait; `stop` does, and without it the task still closes the connections.
            self._abandoning = asyncio.ensure_future(_abandon(producer))
            _ABANDONED.add(self._abandoning)
            self._abandoning.add_done_callback(_ABANDONED.discard)
            raise
        self._producer = producer
        self._ended = asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """Disconnect, within STOP_LIMIT_S; never raises. Publications under way fail."""
        self._end("the publisher was stopped")  # nobody waits for what is under way, so there is nothing to flush
        if self._abandoning is not None:
            await asyncio.wait([self._abandoning], timeout=STOP_LIMIT_S)

    async def publish(self, topic: str, partition: int, records: Sequence[OutgoingRecord]) -> int:
        """Append these records in order, batch after batch, each acknowledged before the next is sent.

        Within ACKNOWLEDGE_LIMIT_S per batch of BATCH_BYTES_MAX.
        """
        if not records:
            raise ValueError("nothing to publish")
        first_offset: int | None = None
        begin = 0
        try:
            while begin < len(records):
                producer = self._open_producer()
                batch, end = _filled_batch(producer, records, begin)
                offset = await self._acknowledged(producer, batch, topic, partition)
                first_offset = offset if first_offset is None else first_offset
                begin = end
        except asyncio.CancelledError:
            # A batch may be under way, and a later one must not overtake it.
            self._end(f"a publication to {topic}[{partition}] was cancelled")
            raise
        assert first_offset is not None
        return first_offset

    def _open_producer(self) -> AIOKafkaProducer:
        if self._failure is not None:
            raise PublishError(f"this publisher is at its end: {self._failure}")
        if self._producer is None:
            raise PublishError("the publisher is not started")
        return self._producer

    async def _acknowledged(self, producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> int:
        assert self._ended is not None
        place = f"{topic}[{partition}]"
        sending = asyncio.ensure_future(_send(producer, batch, topic, partition))
        first_done: set[asyncio.Future[Any]] = {sending, self._ended}
        try:
            await asyncio.wait(first_done, timeout=ACKNOWLEDGE_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not sending.done():
                sending.cancel()
        if not sending.done():
            if self._failure is not None:
                raise PublishError(f"{place}: in doubt, as another publication failed: {self._failure}")
            raise self._end(f"{place}: not acknowledged within {ACKNOWLEDGE_LIMIT_S:g} s")
        try:
            offset = sending.result()
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that the partition exists
            raise self._end(denied(self._kafka, error, "WRITE", f"topic {topic}") or f"{place}: {error!r}") from error
        if offset < 0:  # written, as a resend found out, but so long ago that the broker cannot say where
            raise self._end(f"{place}: acknowledged without an offset")
        return offset

    def _end(self, reason: str) -> PublishError:
        """Make this failure the end of the producer, and close it before it can send anything again."""
        failure = PublishError(reason)
        if self._failure is None:
            self._failure = failure
            if self._ended is not None:
                self._ended.set_result(None)
            if self._producer is not None:
                self._abandoning = asyncio.ensure_future(_abandon(self._producer))
        return failure


def _filled_batch(
    producer: AIOKafkaProducer, records: Sequence[OutgoingRecord], begin: int
) -> tuple[BatchBuilder, int]:
    """A batch of the records from `begin`, and the index of the first that did not fit in."""
    batch = producer.create_batch()
    append = batch.append
    for index in range(begin, len(records)):
        record = records[index]
        if append(timestamp=None, key=record.key, value=record.value) is None:
            break
    else:
        index = len(records)
    batch.close()
    return batch, index


async def _send(producer: AIOKafkaProducer, batch: BatchBuilder, topic: str, partition: int) -> int:
    acknowledgement: Any = await producer.send_batch(batch, topic, partition=partition)
    return int((await acknowledgement).offset)


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Close a producer without flushing, so that it sends nothing any more; within STOP_LIMIT_S.

    Its own stop() flushes first, which never ends while brokers are away, and until then it goes on sending.
    """
    sender_task = producer._sender.sender_task
    if sender_task is not None:
        sender_task.cancel()
    await finish_within(STOP_LIMIT_S / 2, producer.client.close())
    await finish_within(STOP_LIMIT_S / 2, producer.stop())
