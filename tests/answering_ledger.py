"""A ledger for tests of clients: it reads commands from an in-memory broker, decides by the real rules and answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from ledger.broker.protocol import (
    BrokerUnavailableError,
    Publisher,
    PublishError,
    Record,
    RecordReader,
    TopicPartition,
)
from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.command import Command
from ledger.domain.decider import decide, evolve
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from ledger.domain.position import Position
from ledger.messages.command_codec import Unreadable, decode_command
from ledger.messages.event_codec import encode_event
from ledger.messages.topics import Topics
from ledger.operations import Registry
from ledger.testing.broker import InMemoryBroker, Operation

PARTITIONS = 3
TOPICS = Topics()
POLL_WAIT_S = 60.0


class InMemoryConnection:
    """`producers.connection.Connection` to an in-memory broker."""

    def __init__(self, broker: InMemoryBroker) -> None:
        self.broker = broker

    def publisher(self) -> Publisher:
        return self.broker.publisher()

    def reader(self) -> RecordReader:
        return self.broker.reader()

    async def partition_counts(self) -> Mapping[str, int]:
        return await self.broker.admin().partition_counts()


class AnsweringLedger:
    """Decides every readable command once and answers copies with the first event, as the real ledger does."""

    def __init__(self, broker: InMemoryBroker, registry: Registry) -> None:
        self.broker = broker
        self.registry = registry
        self.commands: list[Command] = []
        """All that was read, copies too."""
        self.unreadable: list[Unreadable] = []
        self.lost_answers = 0
        """So many of the next answers are not published."""
        self.answering = asyncio.Event()
        self.answering.set()
        """Cleared, commands wait in Kafka."""
        self.events: dict[tuple[str, str, UUID], RecordedEvent] = {}
        self._accounts: dict[tuple[str, str], Account] = {}
        self._nonces: dict[tuple[str, str, str], Position] = {}
        self._sequences: dict[int, int] = {}

    async def run(self) -> None:
        """Read and answer, for ever."""
        reader = self.broker.reader()
        await reader.start()
        reader.assign(
            {TopicPartition(TOPICS.commands(app), number): 0 for app in self.registry for number in range(PARTITIONS)}
        )
        while True:
            records = await reader.poll(1_000, POLL_WAIT_S)
            await self.answering.wait()
            for record in records:
                self._consume(record)

    def _consume(self, record: Record) -> None:
        app = TOPICS.app_of(record.topic)
        assert app is not None
        command = decode_command(app, record.key, record.value, record.partition, PARTITIONS)
        if isinstance(command, Unreadable):
            self.unreadable.append(command)
            return
        self.commands.append(command)
        identity = (app, command.owner_id, command.command_id)
        first = self.events.get(identity)
        if first is None:
            first = self.events[identity] = self._decide(command, record.partition)
            topic = TOPICS.events
        else:
            topic = TOPICS.replays
        if self.lost_answers:
            self.lost_answers -= 1
            return
        self.broker.append(topic, record.partition, record.key, encode_event(first))

    def _decide(self, command: Command, partition: int) -> RecordedEvent:
        owner = (command.owner_id, command.credit_type)
        account = self._accounts.get(owner, EMPTY_ACCOUNT)
        nonce = (command.app, command.owner_id, command.nonce)
        now = datetime.now(UTC)
        decided = decide(command, account, self.registry[command.app], now, self._nonces.get(nonce))
        sequence = self._sequences[partition] = self._sequences.get(partition, 0) + 1
        self._accounts[owner] = evolve(account, decided)
        if decided.reason is None:
            self._nonces[nonce] = Position(partition, sequence)
        return RecordedEvent(
            type=ENTRY_POSTED if decided.reason is None else COMMAND_REJECTED,
            partition=partition,
            sequence=sequence,
            app=command.app,
            command_id=command.command_id,
            operation=command.operation,
            owner_id=command.owner_id,
            credit_type=command.credit_type,
            account_version=decided.account_version,
            amount=decided.amount,
            balance_after=decided.balance_after,
            nonce=command.nonce,
            issued_at=command.issued_at,
            occurred_at=now,
            prev_hash="00" * 32,
            hash="00" * 32,
            metadata=None if command.metadata is None else msgspec.Raw(command.metadata.encode()),
            reason=decided.reason,
            detail=decided.detail,
        )


class Faults:
    """Raises at the operations that it is told to, as often as it is told to."""

    def __init__(self) -> None:
        self.failing: dict[Operation, int] = {}
        self.holding: dict[Operation, asyncio.Event] = {}
        self.reached: dict[Operation, asyncio.Event] = {}

    async def step(self, operation: Operation) -> None:
        if operation in self.holding:
            self.reached.setdefault(operation, asyncio.Event()).set()
            await self.holding[operation].wait()
        if self.failing.get(operation, 0):
            self.failing[operation] -= 1
            error = PublishError if operation in ("publish", "acknowledge") else BrokerUnavailableError
            raise error(f"a fault at {operation}")


@asynccontextmanager
async def answering_ledger(registry: Registry, broker: InMemoryBroker | None = None) -> AsyncIterator[AnsweringLedger]:
    """A broker with the topics of all apps, and the ledger that answers on it."""
    broker = broker or InMemoryBroker()
    for topic in (TOPICS.events, TOPICS.replays, *(TOPICS.commands(app) for app in registry)):
        broker.create_topic(topic, PARTITIONS)
    ledger = AnsweringLedger(broker, registry)
    running = asyncio.create_task(ledger.run())
    try:
        yield ledger
    finally:
        running.cancel()
        await asyncio.wait([running])
