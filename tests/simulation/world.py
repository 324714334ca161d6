"""One seed, one world: apps, ledger consumers and a nemesis on an in-memory Kafka and Postgres, in virtual time.

The real ledger consumer and relay run; chance decides who crashes, freezes, is slow, loses answers, and when.
"""

import asyncio
import json
import logging
import sys
import uuid
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random

import structlog

from apps.example_app.operations import ExampleAppOperations
from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.protocol import BrokerUnavailableError
from ledger.event_store.protocol import EVENT_COLUMNS, StoreUnavailableError
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from ledger.operations import BaseLedgerOperations, Registry
from ledger.testing.broker import InMemoryBroker
from ledger.testing.broker_group import InMemoryMembership
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.simulation.auditor import Row, Sent, ViolationError, audit_input, audit_published, audit_record

SESSION_TIMEOUT_S = 6.0
LOAD_S = 12.0
SETTLE_LIMIT_S = 300.0
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
TOPICS = Topics()


class SecondAppOperations(BaseLedgerOperations):
    """So that owners get commands from two topics."""

    app = "second-app"


APPS = (ExampleAppOperations, SecondAppOperations)


@dataclass
class Process:
    """A ledger consumer that can freeze and die."""

    name: str
    alive: bool = True
    running: asyncio.Event | None = None
    consumer: LedgerConsumer | None = None
    membership: InMemoryMembership | None = None
    task: asyncio.Task[None] | None = None

    async def gate(self) -> None:
        """Where a frozen process waits, and a dead one for ever: nothing that it does has an effect past here."""
        if not self.alive:
            await asyncio.Event().wait()
        assert self.running is not None
        await self.running.wait()


CURRENT: ContextVar[Process | None] = ContextVar("CURRENT", default=None)


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.partitions = self.random.choice((1, 2, 2, 3))
        self.faulty = True
        self.fault_rate = self.random.choice((0.0, 0.005, 0.02, 0.05))
        self.broker = InMemoryBroker(self.broker_step)
        self.record = InMemoryRecord.initialised(uuid.UUID(int=seed + 1), self.partitions, self.now)
        self.processes: list[Process] = []
        self.sent: list[Sent] = []
        self.trace: list[str] = []
        self.owners = [f"owner-{number}" for number in range(self.random.choice((1, 3, 6)))]
        self.started = 0

    # ---- time and faults ----

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def say(self, text: str) -> None:
        self.trace.append(f"{asyncio.get_running_loop().time():9.3f}  {text}")

    async def broker_step(self, operation: str) -> None:
        # A rebalance is the group's own work, not that of the process whose coming or going began it.
        process = None if operation == "rebalance" else CURRENT.get()
        await self._fault(process, operation, BrokerUnavailableError)
        if operation == "acknowledge" and process is not None:
            self.audit_step()

    async def store_step(self, what: str) -> None:
        await self._fault(CURRENT.get(), what, StoreUnavailableError)

    async def _fault(self, process: Process | None, what: str, error: Callable[[str], Exception]) -> None:
        if process is None:
            await asyncio.sleep(0)
            return
        await process.gate()
        if self.faulty and self.random.random() < self.fault_rate:
            kind = self.random.random()
            if kind < 0.45:
                await asyncio.sleep(self.random.expovariate(10))
            elif kind < 0.9:
                self.say(f"{process.name}: {what} fails")
                raise error(f"simulated: {what}")
            elif self.random.random() < 0.3:
                self.crash(process)
        else:
            await asyncio.sleep(0)
        await process.gate()

    # ---- processes ----

    def start_process(self) -> None:
        self.started += 1
        process = Process(f"consumer-{self.started}", running=asyncio.Event())
        assert process.running is not None
        process.running.set()
        CURRENT.set(process)
        store = InMemoryEventStore(self.record, self.store_step)
        process.membership = self.broker.membership(TOPICS.consumer_group, TOPICS.events)
        jump = self.random.uniform(-100, 100)
        process.consumer = LedgerConsumer(
            holder=process.name,
            store=store,
            reader=self.broker.reader(),
            tail_reader=self.broker.reader(),
            membership=process.membership,
            open_publisher=self.broker.publisher,
            rules=Registry(APPS),
            topics=TOPICS,
            partitions=self.partitions,
            clock=RecordClock(lambda: asyncio.get_running_loop().time() + jump, lambda: self.now().timestamp() + jump),
            random=Random(self.random.random()),
        )
        process.task = asyncio.create_task(process.consumer.run(), name=process.name)
        CURRENT.set(None)
        self.processes.append(process)
        self.say(f"{process.name} starts")

    def crash(self, process: Process) -> None:
        """kill -9: nothing that it would do has an effect any more; the group notices after the session timeout."""
        if process.alive:
            self.say(f"{process.name} crashes")
            process.alive = False
            self.processes.remove(process)
            assert process.membership is not None
            asyncio.get_running_loop().call_later(SESSION_TIMEOUT_S, process.membership.lose_session)

    async def freeze(self, process: Process, seconds: float) -> None:
        """SIGSTOP and SIGCONT."""
        assert process.running is not None
        assert process.membership is not None
        if not process.running.is_set():
            return
        self.say(f"{process.name} freezes for {seconds:.1f} s")
        process.running.clear()
        await asyncio.sleep(min(seconds, SESSION_TIMEOUT_S))
        lost = seconds > SESSION_TIMEOUT_S and process.alive
        if lost:
            process.membership.lose_session()
        await asyncio.sleep(max(0.0, seconds - SESSION_TIMEOUT_S))
        self.say(f"{process.name} thaws")
        process.running.set()
        if lost and process.alive:
            await asyncio.sleep(self.random.expovariate(2))
            if process.alive and not self._stopped(process):
                await process.membership.notice_lost_session()

    def _stopped(self, process: Process) -> bool:
        return process.task is None or process.task.done()

    async def stop(self, process: Process) -> None:
        """SIGTERM."""
        self.say(f"{process.name} is stopped")
        assert process.consumer is not None
        assert process.task is not None
        process.consumer.stop()
        self.processes.remove(process)

    # ---- actors ----

    async def apps(self) -> None:
        copies: list[tuple[str, bytes, bytes]] = []
        for _ in range(self.random.randint(5, 40)):
            await asyncio.sleep(self.random.expovariate(40 / LOAD_S))
            for _ in range(self.random.choice((1, 1, 1, 4))):
                app = self.random.choice(APPS).app
                owner = self.random.choice(self.owners)
                kind = self.random.random()
                if kind < 0.2 and copies:
                    app, key, value = self.random.choice(copies)
                    if self.random.random() < 0.3:
                        value = json.dumps({**json.loads(value), "amount": 77, "operation": "CREDIT_ADD"}).encode()
                    self.send(app, key, value, readable=True)
                elif kind < 0.3:
                    self.send_unreadable(app, owner)
                else:
                    value = self.command(owner)
                    copies.append((app, owner.encode(), value))
                    self.send(app, owner.encode(), value, readable=True)

    def command(self, owner: str) -> bytes:
        operation, amount = self.random.choice(
            (
                ("CREDIT_ADD", self.random.randint(1, 20)),
                ("CREDIT_ADD", None),
                ("CREDIT_SPEND", -self.random.randint(1, 30)),
                ("CREDIT_SPEND", 5),
                ("DAILY_REWARD", None),
                ("CONTENT_CREATION", None),
                ("FLY", None),
            )
        )
        body = {
            "command_id": str(uuid.UUID(int=self.random.getrandbits(128), version=4)),
            "operation": operation,
            "owner_id": owner,
            "nonce": f"nonce-{self.random.randint(0, 25)}",
            "issued_at": self.now().isoformat(),
        }
        if amount is not None:
            body["amount"] = amount  # type: ignore[assignment]
        if self.random.random() < 0.1:
            body["not_after"] = (self.now() + timedelta(seconds=self.random.uniform(0, 3))).isoformat()
        if self.random.random() < 0.2:
            body["metadata"] = {"note": "x"}  # type: ignore[assignment]
        return json.dumps(body).encode()

    def send_unreadable(self, app: str, owner: str) -> None:
        kind = self.random.randrange(4)
        good = self.command(owner)
        if kind == 0:
            self.send(app, owner.encode(), b"{", readable=False)
        elif kind == 1:
            self.send(app, owner.encode(), None, readable=False)
        elif kind == 2:
            self.send(app, b"another key", good, readable=False)
        elif self.partitions > 1:
            wrong = (partition_of(owner.encode(), self.partitions) + 1) % self.partitions
            self.send(app, owner.encode(), good, readable=False, partition=wrong)

    def send(
        self, app: str, key: bytes | None, value: bytes | None, *, readable: bool, partition: int | None = None
    ) -> None:
        where = partition_of(key or b"", self.partitions) if partition is None else partition
        offset = self.broker.append(TOPICS.commands(app), where, key, value)
        self.sent.append(Sent(app, where, offset, key, value, readable))

    async def nemesis(self) -> None:
        gap = self.random.choice((0.7, 2.0, 6.0))
        background: set[asyncio.Task[None]] = set()
        while True:
            await asyncio.sleep(self.random.expovariate(1 / gap))
            kind = self.random.random()
            victim = self.random.choice(self.processes) if self.processes else None
            if kind < 0.25 and victim is not None:
                self.crash(victim)
            elif kind < 0.5 and victim is not None:
                freezing = asyncio.create_task(self.freeze(victim, self.random.uniform(0.1, 15)))
                background.add(freezing)
            elif kind < 0.6 and victim is not None:
                await self.stop(victim)
            elif kind < 0.7:
                self.broker.available = not self.broker.available
                self.say(f"Kafka is {'back' if self.broker.available else 'away'}")
            elif kind < 0.8:
                self.remove_consumed()
            elif len(self.processes) < 4:
                self.start_process()

    def remove_consumed(self) -> None:
        """Retention: of what is consumed, with luck including the last record, never more."""
        for (app, partition), mark in self.record.offsets.items():
            if self.random.random() < 0.5:
                upto = self.random.randint(0, mark.next_offset)
                self.broker.remove_before(TOPICS.commands(app), partition, upto)
                self.say(f"retention removes {app}:{partition} below {upto}")

    async def settle(self) -> None:
        """No more faults: everything must come to its end by itself."""
        self.faulty = False
        self.broker.available = True
        self.say("no more faults")
        for process in self.processes:
            assert process.running is not None
            process.running.set()
        while len(self.processes) < 2:
            self.start_process()
        deadline = asyncio.get_running_loop().time() + SETTLE_LIMIT_S
        while not self._settled():
            if asyncio.get_running_loop().time() > deadline:
                raise ViolationError(f"it does not come to rest: {self._unsettled()}")
            await asyncio.sleep(0.5)

    def _settled(self) -> bool:
        return not self._unsettled()

    def _unsettled(self) -> list[str]:
        behind = []
        for app in (cls.app for cls in APPS):
            for partition in range(self.partitions):
                end = sum(1 for one in self.sent if (one.app, one.partition) == (app, partition))
                mark = self.record.offsets.get((app, partition))
                if end and (mark is None or mark.next_offset < end):
                    behind.append(f"{app}:{partition} consumed {mark and mark.next_offset} of {end}")
        for partition, head in self.record.heads.items():
            if head.published_sequence < head.sequence:
                behind.append(f"{partition} published {head.published_sequence} of {head.sequence}")
            if head.halted_because is not None:
                behind.append(f"{partition} halted: {head.halted_because}")
        return behind

    # ---- audit ----

    def audit_step(self) -> None:
        """Nothing is published that is not recorded, at every moment."""
        rows = self.rows()
        recorded = {(row.partition, row.sequence): row.hash.hex() for row in rows}
        for partition in range(self.partitions):
            records = self.broker.records(TOPICS.events, partition)
            if records:
                body = json.loads(records[-1].value or b"")
                if recorded.get((body["partition"], body["sequence"])) != body["hash"]:
                    raise ViolationError(f"invariant 10: {partition}:{body['sequence']} is published and not recorded")

    def rows(self) -> list[Row]:
        return [
            Row(**dict(zip(EVENT_COLUMNS, row, strict=True)))  # type: ignore[arg-type]
            for rows in self.record.events.values()
            for row in rows
        ]

    def audit(self) -> None:
        rows = self.rows()
        audit_record(rows)
        quarantine = {place: (row.key, row.value) for place, row in self.record.quarantine.items()}
        audit_input(self.sent, rows, quarantine)

        def values(topic: str) -> dict[int, list[bytes]]:
            return {
                partition: [record.value or b"" for record in self.broker.records(topic, partition)]
                for partition in range(self.partitions)
            }

        audit_published(values(TOPICS.events), values(TOPICS.replays), rows)

    async def live(self) -> None:
        for topic in (TOPICS.events, TOPICS.replays, *(TOPICS.commands(cls.app) for cls in APPS)):
            self.broker.create_topic(topic, self.partitions)
        for _ in range(self.random.randint(1, 3)):
            self.start_process()
        nemesis = asyncio.create_task(self.nemesis())
        await self.apps()
        nemesis.cancel()
        await self.settle()
        self.audit()


def quiet() -> None:
    """No logs, and no word about coroutines that end where a simulated crash left them: a failing seed prints its
    trace."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
