"""The ledger consumer: takes partitions over, reads commands, decides, appends, and hands events to the relay.

The loop alone touches the reader and the held partitions; it does so between two polls, so that no record is swallowed
by a change of the assignment. It never skips a record: a partition that cannot go on is halted, and the others go on.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Final

import structlog

from consumers.appending import AppendOutcome, BatchAppender
from consumers.away import Away
from consumers.back_off import BackOff
from consumers.batch import DecodedRecord
from consumers.command_topics import CommandTopics
from consumers.held_partition import BATCH_RECORDS_MAX, HeldPartition
from consumers.holdings import Holdings, undecidable_to_do
from consumers.record_clock import SKEW_LIMIT_S, RecordClock
from consumers.relay import Relay
from consumers.takeover import TailTimeoutError, begin_reading, verify_first
from ledger.broker.protocol import (
    BrokerUnavailableError,
    Membership,
    OffsetOutOfRangeError,
    Publisher,
    Record,
    RecordReader,
    TopicPartition,
)
from ledger.domain.rules import AppRules
from ledger.event_store.protocol import (
    CommitOutcomeUnknownError,
    EventStore,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.messages.command_codec import decode_command
from ledger.messages.topics import Topics

POLL_WAIT_S: Final = 0.1
"""How long an idle poll waits: the longest delay until a change of the assignment is seen."""

TOPICS_REFRESH_S: Final = 3.0
"""How soon a new app's topic is consumed."""

REJOIN_WAIT_MAX_S: Final = 1.0
STOP_DRAIN_LIMIT_S: Final = 8.0
"""How long a graceful stop waits for the publication of what is committed; the next holder publishes the rest."""

STOP_RELEASE_LIMIT_S: Final = 2.0
"""How long it waits for Postgres to take the partitions back; otherwise they are claimed as those of the dead are."""

AWAY_ERRORS: Final = (BrokerUnavailableError, StoreUnavailableError, TailTimeoutError)

log: Final = structlog.get_logger("ledger.consumer")


class LedgerConsumer:
    """One process's part of the ledger. What the input does not determine is passed in: servers, clock, chance."""

    def __init__(
        self,
        *,
        holder: str,
        store: EventStore,
        reader: RecordReader,
        tail_reader: RecordReader,
        membership: Membership,
        open_publisher: Callable[[], Publisher],
        rules: Mapping[str, AppRules],
        topics: Topics,
        partitions: int,
        clock: RecordClock,
        random: Random,
        skew_limit_s: float = SKEW_LIMIT_S,
    ) -> None:
        """`holder` names this process for people; `reader` reads commands, `tail_reader` the ends of the events."""
        self._store = store
        self._reader = reader
        self._tail_reader = tail_reader
        self._membership = membership
        self._relay = Relay(store, open_publisher, topics, random)
        self._holdings = Holdings(
            holder=holder,
            store=store,
            relay=self._relay,
            tail_reader=tail_reader,
            topics=topics,
            partitions=partitions,
            clock=clock,
            skew_limit_s=skew_limit_s,
        )
        self._appender = BatchAppender(store, rules, clock, self._relay.published_sequence)
        self._command_topics = CommandTopics(reader, topics, rules.keys(), partitions)
        self._partitions = partitions
        self._random = random
        self._topics_read_at: float | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._leaderless: frozenset[TopicPartition] = frozenset()
        """Partitions of command topics whose logs cannot be asked for now."""
        self._away = Away()
        self._stopping = asyncio.Event()
        self.left_in_order = False
        """After `run`: whether all that was committed is published and noted, and the partitions are given back."""

    def stop(self) -> None:
        """Ask the loop to finish the batch in hand and to leave."""
        self._stopping.set()

    async def run(self) -> None:
        """Run until `stop` is called.

        Raises:
            RecordMismatchError: the database is not this ledger's; nothing can go on.
        """
        await self._start()
        back_off = BackOff(self._random)
        clean = False
        try:
            while not self._stopping.is_set():
                self._membership.turned()
                try:
                    await self._turn()
                except AWAY_ERRORS as error:
                    self._away.say(error)
                    self._holdings.check_soon()
                    if isinstance(error, StoreUnavailableError):
                        self._holdings.compare_logs()  # nobody fetches meanwhile: a recreated topic would not show
                    await self._back_off(back_off)
                except CommitOutcomeUnknownError as error:
                    self._away.say(error)
                    self._holdings.doubt_all()
                else:
                    self._away.say_back()
                    back_off.reset()
            clean = True
        finally:
            await self._leave(clean)

    async def _start(self) -> None:
        back_off = BackOff(self._random)
        for start in (self._check_identity, self._reader.start, self._tail_reader.start, self._membership.start):
            while not self._stopping.is_set():
                try:
                    await start()
                    break
                except AWAY_ERRORS as error:
                    self._away.say(error)
                    await self._back_off(back_off)
        self._away.say_back()

    async def _back_off(self, back_off: BackOff) -> None:
        """Wait a little longer each time, but not longer than until a stop is asked for."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), back_off.next_s())

    async def _check_identity(self) -> None:
        identity = await self._store.identity()
        if identity.partitions != self._partitions:
            raise RecordMismatchError(
                f"this ledger has {identity.partitions} partitions since its first start, {self._partitions} are set; "
                f"set LEDGER_PARTITIONS={identity.partitions}"
            )

    async def _leave(self, clean: bool) -> None:
        drained = await self._relay.drain(STOP_DRAIN_LIMIT_S)
        if clean:  # otherwise the record in hand may be what ended this process, and the next holder is to know
            try:
                async with asyncio.timeout(STOP_RELEASE_LIMIT_S):
                    self.left_in_order = await self._holdings.release_all() and drained
            except TimeoutError:
                log.warning("leaving without a word to the record: it does not answer", limit_s=STOP_RELEASE_LIMIT_S)
        await asyncio.gather(self._membership.stop(), self._reader.stop(), self._tail_reader.stop())

    async def _turn(self) -> None:
        wanted = self._membership.wanted
        if wanted is None:
            # A rebalance: whoever gets our partitions may be claiming them now.
            await self._membership.changed(self._membership.generation, POLL_WAIT_S)
            return
        lost = await self._holdings.take_over(wanted, self._membership.turned) or await self._holdings.check()
        if lost:
            await self._fenced(lost)
            return
        await self._refresh_topics()
        await self._assign()
        await self._holdings.note_halts()
        if not self._assigned:
            await self._membership.changed(self._membership.generation, POLL_WAIT_S)
            return
        careful = self._holdings.next_careful()
        if careful is not None:
            await self._turn_carefully(careful)
            return
        if not await self._relay.room(POLL_WAIT_S):
            return
        records = await self._poll(BATCH_RECORDS_MAX, None)
        if records:
            await self._process(records)
        await self._note_calm()

    # ---- which partitions, which topics ----

    async def _refresh_topics(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._topics_read_at is None or now - self._topics_read_at >= TOPICS_REFRESH_S:
            known = dict(self._command_topics.app_of)
            try:
                changed = await self._command_topics.refresh()
            except BrokerUnavailableError:
                self._holdings.compare_logs()  # no broker answers: what is there when one does may be another log
                raise
            if changed:
                self._holdings.changed = True
                for topic in known.keys() - self._command_topics.app_of.keys():
                    # It was deleted, or has another size: what comes back under its name may be another log.
                    for held in self._holdings.held.values():
                        held.forget_log(known[topic])
            if self._leaderless:
                self._compare_again(await self._reader.reachable_bounds(self._leaderless))
            self._topics_read_at = now

    async def _assign(self) -> None:
        if not self._holdings.changed:
            return
        readable = {held.partition: held for held in self._holdings.readable()}
        wanted = [TopicPartition(topic, partition) for topic in self._command_topics.app_of for partition in readable]
        unknown = [tp for tp in wanted if self._command_topics.app_of[tp.topic] not in readable[tp.partition].begun]
        bounds = await self._reader.reachable_bounds(unknown) if unknown else {}
        leaderless = frozenset(unknown) - bounds.keys()
        if leaderless - self._leaderless:
            log.error("WAITING: these have no leader; the others go on", partitions=sorted(map(str, leaderless)))
        self._leaderless = leaderless
        for topic_partition, bound in bounds.items():
            held, app = readable[topic_partition.partition], self._command_topics.app_of[topic_partition.topic]
            because = begin_reading(held, app, bound)
            if because is not None:
                self._holdings.halt_app(held, app, because)
        positions = {}
        for topic_partition in wanted:
            held, app = readable[topic_partition.partition], self._command_topics.app_of[topic_partition.topic]
            if held.reads(app) and app in held.begun:
                positions[topic_partition] = held.next_offset(app)
        self._reader.assign(positions)
        self._assigned = frozenset(positions)
        self._holdings.changed = False

    # ---- reading ----

    async def _poll(self, records_max: int, only: HeldPartition | None) -> list[Record]:
        among = None if only is None else [tp for tp in self._assigned if tp.partition == only.partition]
        try:
            polled = await self._reader.poll(records_max, POLL_WAIT_S, among)
        except OffsetOutOfRangeError as error:
            self._look_again(error)
            return []
        doubtful = self._reader.doubtful()
        if doubtful:  # what was polled may be another log's: nothing of it is consumed before the logs are compared
            self._compare_again(doubtful)
            return []
        records = []
        for record in polled:
            held = self._holdings.held[record.partition]
            app = self._command_topics.app_of[record.topic]
            if not held.reads(app):
                continue  # nothing of it is consumed: it is read again when an operator has acted
            if app in held.unverified:
                because = verify_first(held, app, record)
                if because is not None:
                    self._holdings.halt_app(held, app, because)
            else:
                records.append(record)
        return records

    def _look_again(self, error: OffsetOutOfRangeError) -> None:
        """What the log holds now says what has happened to it: retention, or another log under the same name."""
        held = self._holdings.held[error.topic_partition.partition]
        app = self._command_topics.app_of[error.topic_partition.topic]
        if app in held.out_of_range:  # it was looked at, and looked right
            self._holdings.halt_app(held, app, f"{error}; see docs/operating.md, 'Offsets out of range'")
            return
        held.out_of_range.add(app)
        held.forget_log(app)
        self._holdings.changed = True

    def _compare_again(self, doubtful: Collection[TopicPartition]) -> None:
        """A broker disowned these for a moment, or they had no leader: their leaders moved, or the topic was deleted
        and made again. That happens to one partition after the other, so all of the topic's are doubted."""
        for topic in {topic_partition.topic for topic_partition in doubtful} & self._command_topics.app_of.keys():
            for held in self._holdings.held.values():
                held.forget_log(self._command_topics.app_of[topic])
            self._holdings.changed = True

    async def _turn_carefully(self, held: HeldPartition) -> None:
        """A holder died at this position without progress: try few records at a time, and say which before."""
        records = await self._poll(held.careful_batch, held)
        # Asked now: while these records are processed more may come, again and again, and the others would wait on.
        at_end = self._caught_up(held)
        if not records:
            if at_end:
                await self._holdings.calm([held])
            return
        record = records[0]
        trying = f"{self._command_topics.app_of[record.topic]}:{record.offset}"
        if len(records) > 1:
            trying = f"{trying}+{len(records) - 1}"  # nobody is to blame yet: the next claim takes this one alone
        if held.trying != trying:  # once a claim: waiting for a server is no try
            if await self._store.note_trying(held.partition, held.epoch, trying) is None:
                await self._fenced(frozenset({held.partition}))
                return
            held.trying = trying
        if await self._process(records):
            held.tried(len(records))
            if at_end and held.halted_because is None:
                await self._holdings.calm([held])

    def _caught_up(self, held: HeldPartition) -> bool:
        return all(self._reader.caught_up(tp) for tp in self._assigned if tp.partition == held.partition)

    async def _note_calm(self) -> None:
        idle = [held for held in self._holdings.readable() if not held.calm_noted and self._caught_up(held)]
        if idle:
            await self._holdings.calm(idle)

    # ---- deciding and appending ----

    async def _process(self, records: Sequence[Record]) -> bool:
        """Decide and append; whether the record takes the batch (otherwise the culprit is looked for)."""
        self._membership.batch_began()
        try:
            by_partition: dict[int, list[DecodedRecord]] = {}
            for record in records:
                app = self._command_topics.app_of[record.topic]
                content = decode_command(app, record.key, record.value, record.partition, self._partitions)
                by_partition.setdefault(record.partition, []).append(DecodedRecord(app, record, content))
            try:
                outcome = await self._appender.append(self._holdings.held, by_partition)
            except RecordMismatchError as error:
                # Another history says so for whole partitions; otherwise it is a matter of single commands.
                if await self._holdings.compare():
                    self._holdings.changed = True
                else:
                    self._isolate(by_partition, error)
                return False
        finally:
            self._membership.batch_ended()
        self._follow(outcome)
        if outcome.lost:
            await self._fenced(frozenset(outcome.lost))
        return True

    def _follow(self, outcome: AppendOutcome) -> None:
        """Memory and relay follow what is committed."""
        if outcome.clock is not None:
            self._holdings.set_clock(outcome.clock)
        for plan in outcome.plans:
            partition = plan.held.partition
            own = {event.position: event for event in plan.events} if plan.replays else {}
            replays = [own.get(position) or outcome.replays[position] for position in plan.replays]
            plan.commit()
            self._relay.noted(partition, outcome.published_sequences[partition])
            self._relay.add(partition, plan.events, replays)
        for partition, failed in outcome.failed.items():
            because = f"{failed.because}; {undecidable_to_do(partition, failed.record)}"
            self._holdings.halt(self._holdings.held[partition], because, failed.record)

    def _isolate(self, by_partition: Mapping[int, Sequence[DecodedRecord]], error: Exception) -> None:
        """The record refuses this batch for a reason that no waiting mends: find the one command that it refuses, by
        trying each alone, and halt that partition only."""
        held = [self._holdings.held[partition] for partition in by_partition]
        log.error("the record refuses a batch", partitions=[one.partition for one in held], error=str(error))
        alone = len(held) == 1 and len(by_partition[held[0].partition]) == 1
        for one in held:
            if alone:
                [[tried]] = by_partition.values()
                because = f"the record refuses {tried.name}: {error}; {undecidable_to_do(one.partition, tried.name)}"
                self._holdings.halt(one, because, tried.name)
            else:
                one.try_each_alone()
        self._holdings.changed = True

    # ---- losing ----

    async def _fenced(self, partitions: frozenset[int]) -> None:
        partitions = await self._holdings.lost_among(partitions)
        if not partitions:
            return  # an operator has taken them: they are claimed again, and the others go on
        # What a stale member still holds may have been claimed by others meanwhile: it gives everything up, and one
        # rebalance later every partition has exactly one holder again. Jitter, so that two such members part.
        log.warning("fenced: other consumers hold these partitions", partitions=sorted(partitions))
        self._holdings.drop_all()
        await asyncio.sleep(self._random.random() * REJOIN_WAIT_MAX_S)
        await self._membership.rejoin()
