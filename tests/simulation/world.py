"""One seed, one world: clients, ledger consumers with relays, projection workers, rebuilds, an operator and a nemesis,
on an in-memory Kafka and Postgres, in virtual time.

The real loops run; chance decides who crashes, freezes, is slow, loses answers, and when. The auditor looks at every
step.
"""

import asyncio
import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random
from typing import Final

from apps.example_app.operations import ExampleAppOperations
from consumers.ledger_consumer import LedgerConsumer
from consumers.record_clock import RecordClock
from ledger.broker.protocol import BrokerUnavailableError, TopicPartition
from ledger.event_store.protocol import CommitOutcomeUnknownError, StoreUnavailableError
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from ledger.operations import BaseLedgerOperations
from ledger.testing.event_store import InMemoryRecord
from projections.feed import FeedKey
from projections.testing import InMemoryProjections
from projections.worker import ProjectionWorker
from tests.auditor.violation import ViolationError
from tests.simulation.audit import Audit
from tests.simulation.chance import Chance
from tests.simulation.clients import EPOCH, Clients
from tests.simulation.fault_kinds import Fault
from tests.simulation.nemesis import Nemesis
from tests.simulation.poison import PoisonedRules
from tests.simulation.processes import CURRENT, STEP_CLASSES, GatedMembership, Process, Role, SeededReader, StepClass
from tests.simulation.rest import Rest
from tests.simulation.watched import WatchedBroker, WatchedEventStore, WatchedProjectionStore

SESSION_TIMEOUT_S: Final = 6.0
TOPICS: Final = Topics()


class SecondAppOperations(BaseLedgerOperations):
    """So that owners get commands from two topics."""

    app = "second-app"


APPS: Final = (ExampleAppOperations, SecondAppOperations)


class World:
    """Everything of one seed."""

    topics = TOPICS
    apps = tuple(cls.app for cls in APPS)
    read_models = ("balances", "statements")

    def __init__(self, seed: int, kept: frozenset[str] | None = None) -> None:
        self.chance = Chance(seed, kept)
        shape = self.chance.stream("shape")
        # Sizes differ, so that most seeds are cheap and some are large.
        self.partitions = shape.choice((1, 2, 2, 3))
        self.owners = [f"owner-{number}" for number in range(shape.choice((1, 3, 6)))]
        self.load_s = shape.choice((4.0, 8.0, 8.0, 14.0))
        self.commands = shape.choice((5, 15, 25, 40))
        self.steps_between_faults = shape.choice((0.0, 12.0, 30.0, 100.0))
        self.actions_mean_gap_s = shape.choice((0.0, 0.7, 2.0, 5.0))
        self.patience = shape.choice((1.0, 5.0, 5.0, 10.0, 10.0))
        self.poll_records_max = shape.choice((1, 5, 1000, 1000))
        self.poison: Fault | None = shape.choices((None, Fault.KILLER, Fault.RAISER), (94, 3, 3))[0]
        self.refused: tuple[str, int, int] | None = None
        """A read model, a partition, a sequence: what its tables refuse, until it is rebuilt."""
        if shape.random() < 0.05:
            self.refused = (shape.choice(self.read_models), shape.randrange(self.partitions), shape.randint(1, 8))
        self.wanted: dict[Role, int] = {"consumer": shape.choice((1, 2, 2)), "worker": shape.choice((1, 1, 2))}
        self.healed = False
        """Whether the version runs that can decide everything."""
        self.settling = False
        self.trace: list[tuple[float, str]] = []
        self.processes: list[Process] = []
        self.postgres_available = True
        self.stop_postgres_in_batch: tuple[bool, float] | None = None
        self.postgres_clock_ahead_s = 0.0
        self.broker_slow_until_s = 0.0
        self.store_slow_until_s = 0.0
        self.removed_unconsumed: set[int] = set()
        self.events_to_lose = 0
        self.freeze_in_claim: dict[Role, float] = {}
        """For how many seconds the next one of a role freezes that claims."""
        self.asked_for_new = False
        self._started = 0
        self._fetched: dict[Role, dict[TopicPartition, int]] = {
            "consumer": defaultdict(int),
            "worker": defaultdict(int),
        }
        self._readers: list[SeededReader] = []
        self._supervisor = self.chance.stream("supervisor")
        self.broker = WatchedBroker(self, shape.choice((1, 3, 500)))
        self.record = InMemoryRecord.initialised(uuid.UUID(int=seed + 1), self.partitions, self.postgres_now)
        self.projections = InMemoryProjections(self.record)
        self.clients = Clients(self, self.chance.stream("clients"))
        self.audit = Audit(self)
        self.nemesis = Nemesis(self, self.chance.stream("nemesis"))

    async def live(self) -> None:
        """The whole run. Raises ViolationError, and whatever ends a process that was not asked to end."""
        loop = asyncio.get_running_loop()
        self._ends = loop.create_future()
        living = loop.create_task(self._live())
        await asyncio.wait((living, self._ends), return_when=asyncio.FIRST_COMPLETED)
        (self._ends if self._ends.done() else living).result()

    def end(self, error: BaseException) -> None:
        """Nothing that happens after this counts."""
        if not self._ends.done():
            self._ends.set_exception(error)

    async def _live(self) -> None:
        for topic in (TOPICS.events, TOPICS.replays, *(TOPICS.commands(app) for app in self.apps)):
            self.broker.create_topic(topic, self.partitions)
        self.projections.install(self.read_models)
        for key in self.projections.checkpoints:
            self.audit.feed_created(key)
        if self.refused is not None:
            self.projections.refuses = self.refuses
        for role, count in self.wanted.items():
            for _ in range(count):
                self.start(role)
        last_s = self.clients.begin()
        self.nemesis.begin(last_s)
        await asyncio.sleep(last_s + 0.1)
        await Rest(self).come_to_rest()
        self.audit.everything()
        for reader in self._readers:
            if reader.fetched_again:
                self.chance.counts[Fault.RECORD_AGAIN] += reader.fetched_again

    # ---- time, words, what is sent ----

    def now(self) -> datetime:
        """The true time."""
        return EPOCH + timedelta(seconds=asyncio.get_running_loop().time())

    def postgres_now(self) -> datetime:
        """The time of the database's clock."""
        return self.now() + timedelta(seconds=self.postgres_clock_ahead_s)

    def say(self, text: str) -> None:
        """Add to the trace."""
        self.trace.append((asyncio.get_running_loop().time(), text))

    def send(self, app: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        """A record of a command topic arrives."""
        where = partition_of(key or b"", self.partitions) if partition is None else partition
        self.broker.append(TOPICS.commands(app), where, key, value)

    # ---- faults of a single call ----

    async def broker_step(self, operation: str) -> None:
        """Before and after everything that is asked of Kafka."""
        process = CURRENT.get()
        # A rebalance is the group's own work, not that of the process whose coming or going began it.
        if process is None or operation == "rebalance":
            await asyncio.sleep(0)
            return
        if not process.alive or not process.running.is_set():
            await process.gate()
        if asyncio.get_running_loop().time() < self.broker_slow_until_s:
            await asyncio.sleep(process.random.expovariate(4))
        if await self._fault(process, operation, STEP_CLASSES.get(operation, "poll"), Fault.BROKER_SLOW):
            fault = Fault.ACKNOWLEDGEMENT_LOST if operation == "acknowledge" else Fault.BROKER_FAILS
            self._tell(process, operation, fault)
            raise BrokerUnavailableError(f"simulated: {operation}")

    async def store_step(self, what: str) -> None:
        """Before and after everything that is asked of Postgres."""
        process = CURRENT.get()
        if process is None:
            await asyncio.sleep(0)
            return
        if not process.alive or not process.running.is_set():
            await process.gate()
        if asyncio.get_running_loop().time() < self.store_slow_until_s:
            await asyncio.sleep(process.random.expovariate(4))
        step_class = STEP_CLASSES.get(what, "read")
        fails = await self._fault(process, what, step_class, Fault.STORE_SLOW)
        if self.stop_postgres_in_batch is not None and step_class == "write":
            committed, seconds = self.stop_postgres_in_batch
            if what.endswith("done") == committed:
                self.stop_postgres_in_batch = None
                self.say(f"Postgres stops while {process.name} waits for {what}")
                self.postgres_stops(seconds)
        if step_class == "claim" and process.role in self.freeze_in_claim and not self.settling:
            self.freeze(process, self.freeze_in_claim.pop(process.role), Fault.FREEZE, Fault.ZOMBIE_IN_CLAIM)
            await process.gate()
        if not self.postgres_available:
            if what == "append" and process.random.random() < 0.5:
                raise CommitOutcomeUnknownError("simulated: Postgres stopped during COMMIT")
            raise StoreUnavailableError("simulated: Postgres is away")
        if fails:
            self._lose_answer(process, what)

    def _lose_answer(self, process: Process, what: str) -> None:
        if what in ("append done", "advance done"):
            self._tell(process, what, Fault.COMMIT_LOST_AFTER)
        elif what == "append" and process.random.random() < 0.6:
            self._tell(process, what, Fault.COMMIT_LOST_BEFORE)
            raise CommitOutcomeUnknownError(f"simulated: {what}")
        else:
            self._tell(process, what, Fault.STORE_FAILS)
        raise StoreUnavailableError(f"simulated: {what}")

    async def _fault(self, process: Process, what: str, step_class: StepClass, slow: Fault) -> bool:
        """Whether the call is to fail; it may take long, and its process may freeze or die in it."""
        steps = process.steps_left
        left = steps[step_class] = steps[step_class] - 1
        if left or self.settling:
            await asyncio.sleep(0)
            return False
        process.draw_gap(step_class)
        kind, size = process.random.random(), process.random.random()
        number = f"{process.name}.{process.faults}"
        process.faults += 1
        fails = False
        if self.chance.keeps(number):
            self.say(f"[{number}] at {what}:")
            if kind < 0.3:
                if what == "acknowledge":
                    slow = Fault.ACKNOWLEDGEMENT_LATE
                self._tell(process, what, slow)
                await asyncio.sleep(0.5 * size if kind < 0.2 else 3 + 12 * size)
            elif kind < 0.42:
                at = {
                    "write": Fault.ZOMBIE_IN_TRANSACTION,
                    "publish": Fault.ZOMBIE_IN_PUBLICATION,
                    "claim": Fault.ZOMBIE_IN_CLAIM,
                }
                self.freeze(process, 16 * size, Fault.FREEZE, at.get(step_class, Fault.ZOMBIE))
            elif kind < 0.54:
                self.chance.happened(Fault.CRASH_AT_STEP)
                self.crash(process)
            else:
                fails = True
        await process.gate()
        return fails

    def _tell(self, process: Process, what: str, fault: Fault) -> None:
        self.chance.happened(fault)
        self.say(f"{process.name} at {what}: {fault.value}")

    def postgres_stops(self, seconds: float) -> None:
        """Every call fails until it is back; what is in flight gets no answer."""
        self.postgres_available = False

        def back() -> None:
            self.postgres_available = True
            self.say("Postgres is back")

        asyncio.get_running_loop().call_later(seconds, back)

    # ---- processes ----

    def start(self, role: Role) -> None:
        """A process begins."""
        self._started += 1
        name = f"{role}-{self._started}"
        process = Process(name, role, self.chance.stream(name), self.steps_between_faults)
        group = TOPICS.consumer_group if role == "consumer" else TOPICS.projection_group()
        token = CURRENT.set(process)
        process.membership = GatedMembership(self.broker.membership(group, TOPICS.events), process)
        process.program = (self._consumer if role == "consumer" else self._worker)(process, process.membership)
        process.task = asyncio.create_task(process.program.run(), name=name)
        CURRENT.reset(token)
        self.processes.append(process)
        self.say(f"{name} starts")
        process.task.add_done_callback(lambda task: self._ended(process, task))

    def _consumer(self, process: Process, membership: GatedMembership) -> LedgerConsumer:
        loop = asyncio.get_running_loop()
        process.clock_ahead_s = process.random.uniform(-100, 100)
        offset_s = process.random.uniform(0, 1e6)
        return LedgerConsumer(
            holder=process.name,
            store=WatchedEventStore(self, process),
            reader=self._reader("consumer"),
            tail_reader=SeededReader(self.broker, 1000, 1.0),
            membership=membership,
            open_publisher=self.broker.publisher,
            rules=PoisonedRules(APPS, self),
            topics=TOPICS,
            partitions=self.partitions,
            clock=RecordClock(lambda: loop.time() + offset_s, lambda: self.now().timestamp() + process.clock_ahead_s),
            random=Random(process.random.random()),
            skew_limit_s=float("inf"),  # clocks jump further here than a consumer decides with: that has its own test
        )

    def _worker(self, process: Process, membership: GatedMembership) -> ProjectionWorker:
        return ProjectionWorker(
            events_topic=TOPICS.events,
            membership=membership,
            reader=self._reader("worker"),
            store=WatchedProjectionStore(self, process),
            read_models=self.read_models,
            holder=process.name,
            random=Random(process.random.random()),
        )

    def _reader(self, role: Role) -> SeededReader:
        reader = SeededReader(self.broker, self.poll_records_max, self.patience, self._fetched[role])
        self._readers.append(reader)
        return reader

    def crash(self, process: Process) -> None:
        """kill -9: nothing that it would do has an effect any more; the group notices after the session timeout."""
        if process.alive:
            self.say(f"{process.name} crashes")
            process.alive = False
            process.running.set()
            self._gone(process)
            assert process.membership is not None
            asyncio.get_running_loop().call_later(SESSION_TIMEOUT_S, process.membership.inner.lose_session)

    def stop(self, process: Process) -> bool:
        """SIGTERM."""
        if process.stopping:
            return False
        assert process.program is not None
        self.say(f"{process.name} is stopped")
        process.stopping = True
        process.program.stop()
        return True

    def freeze(self, process: Process, seconds: float, short: Fault, long: Fault) -> bool:
        """SIGSTOP and SIGCONT."""
        if not process.alive or not process.running.is_set():
            return False
        self.say(f"{process.name} freezes for {seconds:.1f} s")
        self.chance.happened(long if seconds > SESSION_TIMEOUT_S else short)
        process.running.clear()
        loop = asyncio.get_running_loop()
        if seconds > SESSION_TIMEOUT_S:
            loop.call_later(SESSION_TIMEOUT_S, self._session_ends, process)
        loop.call_later(seconds, self.thaw, process)
        return True

    def thaw(self, process: Process) -> None:
        """It goes on where it stood."""
        if not process.running.is_set():
            self.say(f"{process.name} thaws")
            process.running.set()

    def lose_session(self, process: Process, notice_after_s: float) -> bool:
        """The group goes on without a member that goes on working."""
        if not process.at_work:
            return False
        self._session_ends(process, notice_after_s)
        return True

    def _session_ends(self, process: Process, notice_after_s: float | None = None) -> None:
        if process.alive and not process.stopping:
            assert process.membership is not None
            self.say(f"{process.name} loses its session")
            process.membership.inner.lose_session()
            delay_s = process.random.expovariate(2) if notice_after_s is None else notice_after_s
            asyncio.get_running_loop().create_task(self._notice(process, delay_s))

    async def _notice(self, process: Process, delay_s: float) -> None:
        await process.gate()
        await asyncio.sleep(delay_s)
        await process.gate()
        assert process.membership is not None
        if not process.stopping:
            await process.membership.inner.notice_lost_session()

    def _ended(self, process: Process, task: "asyncio.Task[None]") -> None:
        process.alive = False
        self._gone(process)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.end(error)

    def _gone(self, process: Process) -> None:
        """A supervisor starts another one, where too few are left."""
        if process in self.processes:
            self.processes.remove(process)
            delay_s = 0.3 if self.settling else self._supervisor.uniform(0.3, 5)
            asyncio.get_running_loop().call_later(delay_s, self._supervise, process.role)

    def _supervise(self, role: Role) -> None:
        if sum(process.role == role for process in self.processes) < self.wanted[role]:
            self.start(role)

    _ends: "asyncio.Future[None]"

    # ---- retention, poison, read models ----

    def retention_goes_too_far(self, place: float, size: float) -> bool:
        """Remove commands that nobody decided."""
        behind: list[tuple[str, int, int, int]] = []
        for app in self.apps:
            for partition in range(self.partitions):
                log = self.broker.log(TopicPartition(TOPICS.commands(app), partition))
                mark = self.record.offsets.get((app, partition))
                assert log is not None
                begin = max(log.start, mark.next_offset if mark else 0)
                if log.end > begin:
                    behind.append((app, partition, begin, log.end))
        if not behind:
            return False
        app, partition, begin, end = behind[int(place * len(behind))]
        upto = begin + 1 + int(size * (end - begin))
        self.say(f"  {app}:{partition} below {upto}, {begin} was next")
        for offset in range(begin, min(upto, end)):
            self.audit.input.removed(app, partition, offset)
        self.broker.remove_before(TOPICS.commands(app), partition, upto)
        self.removed_unconsumed.add(partition)
        return True

    def loses_event(self) -> bool:
        """Whether Kafka loses the event that is published now."""
        if self.settling or not self.events_to_lose:
            return False
        self.events_to_lose -= 1
        self.chance.happened(Fault.EVENTS_LOST)
        return True

    def causes_to_halt(self, partition: int) -> list[str]:
        """What a message of a halt of this partition may say."""
        causes = ["Offsets out of range"] if partition in self.removed_unconsumed else []
        if self.poison is not None and not self.healed and partition == self.poisoned_partition():
            killer = self.poison is Fault.KILLER
            causes.append("A record that kills the consumer" if killer else "A record that cannot be decided")
        return causes

    def poisoned_partition(self) -> int | None:
        """Where the record lies that kills or raises."""
        for submission in reversed(self.clients.plan):
            if submission.number == "poison":
                return partition_of(submission.key or b"", self.partitions)
        return None

    def refuses(self, one: object) -> str | None:
        """What the tables of a read model say to an event."""
        if self.refused is None:
            return None
        name, partition, sequence = self.refused
        key: FeedKey = one.key  # type: ignore[attr-defined]
        if (key.read_model, key.partition) != (name, partition) or key.version > 1:
            return None
        if any(event.sequence == sequence for event in one.events):  # type: ignore[attr-defined]
            if name not in self.audit.refused:
                self.audit.refused.add(name)
                self.chance.happened(Fault.REFUSED_ROWS)
            return f"simulated: the tables refuse {partition}:{sequence}"
        return None

    def begin_rebuild(self, name: str, seconds: float, *, dies: bool = False, restored: bool = False) -> None:
        """A version is filled beside the active one, and swapped in after a while, if its rebuild still lives."""
        version = self.projections.begin_rebuild(name)
        for key in [key for key in self.audit.feeds if key not in self.projections.checkpoints]:
            del self.audit.feeds[key]
        self.say(f"  {name}/{version} is filled")
        self.chance.happened(Fault.REBUILD_DIES if dies else Fault.REBUILD_RESTORED if restored else Fault.REBUILD)
        if not dies:
            swap: Callable[[], None] = lambda: self.swap(name, version, restored=restored)  # noqa: E731
            asyncio.get_running_loop().call_later(seconds, swap)

    def swap(self, name: str, version: int, *, restored: bool = False) -> None:
        """The end of a rebuild, unless another one came between."""
        if self.projections.versions[name] != version - 1:
            return
        self.projections.swap(name, version, after_restore=restored)
        self.say(f"{name}/{version} is active")
        for partition in range(self.partitions):
            self.audit.feed_created(FeedKey(name, version, partition))
        if self.projections.checkpoints.keys() != {
            FeedKey(model, number, partition)
            for model, number in self.projections.versions.items()
            for partition in range(self.partitions)
        } | {key for key in self.projections.checkpoints if key.version > self.projections.versions[key.read_model]}:
            raise ViolationError("a version was left behind")
