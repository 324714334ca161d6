"""The ledger consumer: takes partitions over, reads commands, decides, appends, and hands events to the relay.

The loop alone touches the reader and the held partitions; it does so between two polls, so that no record is swallowed
by a change of the assignment. It never skips a record: a partition that cannot go on is halted, and the others go on.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Final

import structlog

from consumers.appending import AppendOutcome, BatchAppender
from consumers.back_off import BackOff
from consumers.batch import DecodedRecord
from consumers.command_topics import CommandTopics
from consumers.held_partition import CAREFUL_RECORDS_MAX, HeldPartition
from consumers.record_clock import SKEW_ALARM_S, RecordClock
from consumers.relay import Relay
from consumers.takeover import TailTimeoutError, begin_reading, check_published, verify_first
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
    TRYING_CLAIMS_MAX,
    CommitOutcomeUnknownError,
    EventStore,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.messages.command_codec import decode_command
from ledger.messages.topics import Topics

POLL_RECORDS_MAX: Final = 1_000
"""The largest batch: larger ones gain nothing (FACTS: 47k/s at 500, 48k/s at 1,000) and delay whoever waits."""

POLL_WAIT_S: Final = 0.1
"""How long an idle poll waits: the longest delay until a change of the assignment is seen."""

TOPICS_REFRESH_S: Final = 3.0
"""How soon a new app's topic is consumed."""

HOLD_CHECK_S: Final = 5.0
"""How often an idle holder asks whether it still is one: a busy one learns it from the fence."""

REJOIN_WAIT_MAX_S: Final = 1.0
STOP_DRAIN_LIMIT_S: Final = 10.0
"""How long a graceful stop waits for the publication of what is committed."""

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
    ) -> None:
        """`holder` names this process for people; `reader` reads commands, `tail_reader` the ends of the events."""
        self._holder = holder
        self._store = store
        self._reader = reader
        self._tail_reader = tail_reader
        self._membership = membership
        self._relay = Relay(store, open_publisher, topics, random)
        self._appender = BatchAppender(store, rules, clock, self._relay.published_sequence)
        self._command_topics = CommandTopics(reader, topics, rules.keys(), partitions)
        self._topics = topics
        self._partitions = partitions
        self._clock = clock
        self._random = random
        self._held: dict[int, HeldPartition] = {}
        self._topics_read_at: float | None = None
        self._hold_checked_at = 0.0
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._reassign = True
        self._in_doubt: dict[int, int] = {}
        self._away: str | None = None
        self._skewed = False
        self._stopping = False

    def stop(self) -> None:
        """Ask the loop to finish the batch in hand and to leave."""
        self._stopping = True

    async def run(self) -> None:
        """Run until `stop` is called.

        Raises:
            RecordMismatchError: the database is not this ledger's; nothing can go on.
        """
        await self._start()
        back_off = BackOff(self._random)
        try:
            while not self._stopping:
                self._membership.turned()
                try:
                    await self._turn()
                except AWAY_ERRORS as error:
                    self._say_away(error)
                    self._reassign = True
                    await asyncio.sleep(back_off.next_s())
                except CommitOutcomeUnknownError as error:
                    # The batch may be in the record or not: only a new claim, on condition, tells.
                    self._say_away(error)
                    self._in_doubt = {held.partition: held.epoch for held in self._held.values()}
                    self._drop(list(self._held))
                else:
                    self._say_back()
                    back_off.reset()
        finally:
            await self._leave()

    async def _start(self) -> None:
        back_off = BackOff(self._random)
        for start in (self._check_identity, self._reader.start, self._tail_reader.start, self._membership.start):
            while not self._stopping:
                try:
                    await start()
                    break
                except AWAY_ERRORS as error:
                    self._say_away(error)
                    await asyncio.sleep(back_off.next_s())
        self._say_back()

    async def _check_identity(self) -> None:
        identity = await self._store.identity()
        if identity.partitions != self._partitions:
            raise RecordMismatchError(
                f"this ledger has {identity.partitions} partitions since its first start, {self._partitions} are set; "
                f"set LEDGER_PARTITIONS={identity.partitions}"
            )

    async def _leave(self) -> None:
        await self._relay.drain(STOP_DRAIN_LIMIT_S)
        epochs = {held.partition: held.epoch for held in self._held.values() if held.halted_because is None}
        if epochs:
            try:
                await self._store.note_calm(epochs, release=True)
            except StoreUnavailableError as error:
                log.warning("leaving without a word to the record", error=str(error))
        await self._membership.stop()
        await self._reader.stop()
        await self._tail_reader.stop()

    async def _turn(self) -> None:
        wanted = self._membership.wanted
        if wanted is None:
            # A rebalance: whoever gets our partitions may be claiming them now.
            await self._membership.changed(self._membership.generation, POLL_WAIT_S)
            return
        await self._take_over(wanted)
        await self._refresh_topics()
        await self._assign()
        await self._note_halts()
        if not self._assigned:
            await self._membership.changed(self._membership.generation, POLL_WAIT_S)
            return
        careful = next((held for held in self._readable() if held.careful), None)
        if careful is not None:
            await self._turn_carefully(careful)
            return
        if not await self._relay.room(POLL_WAIT_S):
            return
        records = await self._poll(POLL_RECORDS_MAX, None)
        if records:
            await self._process(records)
        else:
            await self._check_hold()
        await self._note_calm()

    # ---- which partitions, which topics ----

    def _readable(self) -> list[HeldPartition]:
        return [held for held in self._held.values() if held.published_checked and held.halted_because is None]

    async def _take_over(self, wanted: frozenset[int]) -> None:
        given_up = [partition for partition in self._held if partition not in wanted]
        if given_up:
            epochs = {partition: self._held[partition].epoch for partition in given_up}
            self._drop(given_up)
            await self._store.note_calm(epochs, release=True)
        for partition in sorted(wanted - self._held.keys()):
            self._membership.turned()
            if not await self._claim(partition):
                await self._fenced(frozenset({partition}))
                return
        unchecked = {held.partition: held.sequence for held in self._held.values() if not held.published_checked}
        if unchecked:
            wrong = await check_published(self._tail_reader, self._store, self._topics, unchecked)
            for partition in unchecked:
                self._held[partition].published_checked = True
            for partition, because in wrong.items():
                self._halt(self._held[partition], because)

    async def _claim(self, partition: int) -> bool:
        claim = await self._store.claim(partition, self._holder, self._in_doubt.get(partition))
        if claim is None:
            return False
        self._in_doubt.pop(partition, None)
        self._set_clock(claim.clock)
        held = HeldPartition(claim, self._partitions)
        self._relay.begin(partition, claim.epoch, claim.published_sequence, claim.sequence)
        log.info("claimed", partition=partition, epoch=claim.epoch, sequence=claim.sequence)
        if claim.trying_claims >= TRYING_CLAIMS_MAX:
            self._halt(
                held,
                f"the record {claim.trying} was tried {claim.trying_claims} times, and each time the process died; "
                "look at it, then follow docs/operating.md, 'A record that kills the consumer'",
            )
        self._held[partition] = held
        self._reassign = True
        return True

    def _drop(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            self._relay.end(partition)
            self._held.pop(partition, None)
        self._reassign = True

    async def _rejoin(self) -> None:
        # What a stale member still holds may have been claimed by others meanwhile: it gives everything up, and one
        # rebalance later every partition has exactly one holder again. Jitter, so that two such members part.
        self._drop(list(self._held))
        self._in_doubt.clear()
        await asyncio.sleep(self._random.random() * REJOIN_WAIT_MAX_S)
        await self._membership.rejoin()

    def _halt(self, held: HeldPartition, because: str) -> None:
        held.halted_because = because
        self._reassign = True
        log.error(
            "HALTED: this partition stands still until an operator acts", partition=held.partition, because=because
        )

    async def _note_halts(self) -> None:
        for held in self._held.values():
            if held.halted_because is not None and not held.halt_noted:
                await self._store.note_halted(held.partition, held.epoch, held.halted_because)
                held.halt_noted = True

    async def _refresh_topics(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._topics_read_at is None or now - self._topics_read_at >= TOPICS_REFRESH_S:
            if await self._command_topics.refresh():
                self._reassign = True
            self._topics_read_at = now

    async def _assign(self) -> None:
        if not self._reassign:
            return
        readable = {held.partition: held for held in self._readable()}
        wanted = [TopicPartition(topic, partition) for topic in self._command_topics.app_of for partition in readable]
        unknown = [tp for tp in wanted if self._command_topics.app_of[tp.topic] not in readable[tp.partition].begun]
        bounds = await self._reader.bounds(unknown) if unknown else {}
        for topic_partition, bound in bounds.items():
            held = readable[topic_partition.partition]
            if held.halted_because is None:
                because = begin_reading(held, self._command_topics.app_of[topic_partition.topic], bound)
                if because is not None:
                    self._halt(held, because)
        positions = {
            topic_partition: readable[topic_partition.partition].next_offset(
                self._command_topics.app_of[topic_partition.topic]
            )
            for topic_partition in wanted
            if readable[topic_partition.partition].halted_because is None
        }
        self._reader.assign(positions)
        self._assigned = frozenset(positions)
        self._reassign = False

    # ---- reading ----

    async def _poll(self, records_max: int, only: HeldPartition | None) -> list[Record]:
        among = None if only is None else [tp for tp in self._assigned if tp.partition == only.partition]
        try:
            polled = await self._reader.poll(records_max, POLL_WAIT_S, among)
        except OffsetOutOfRangeError as error:
            self._halt(
                self._held[error.topic_partition.partition],
                f"{error}: retention has removed commands that nobody decided, or the topic was truncated; follow "
                "docs/operating.md, 'Offsets out of range'",
            )
            return []
        records = []
        for record in polled:
            held = self._held[record.partition]
            app = self._command_topics.app_of[record.topic]
            if held.halted_because is not None:
                continue  # nothing of it is consumed: it is read again when an operator has acted
            if app in held.unverified:
                because = verify_first(held, app, record)
                if because is not None:
                    self._halt(held, because)
            else:
                records.append(record)
        return [record for record in records if self._held[record.partition].halted_because is None]

    async def _turn_carefully(self, held: HeldPartition) -> None:
        """A holder died at this position without progress: try each record alone, and say so before."""
        records = await self._poll(1, held)
        if not records:
            if self._caught_up(held):
                await self._calm([held])
            return
        record = records[0]
        trying = f"{self._command_topics.app_of[record.topic]}:{record.offset}"
        if held.trying != trying:  # once a claim: waiting for a server is no try
            if await self._store.note_trying(held.partition, held.epoch, trying) is None:
                await self._fenced(frozenset({held.partition}))
                return
            held.trying = trying
        await self._process(records)
        held.careful_records_left -= 1

    async def _check_hold(self) -> None:
        # A stale member's late claim fences an idle holder without its knowing, and the stale member lets go again.
        now = asyncio.get_running_loop().time()
        if now - self._hold_checked_at >= HOLD_CHECK_S:
            self._hold_checked_at = now
            epochs = {held.partition: held.epoch for held in self._held.values()}
            lost = epochs.keys() - await self._store.still_held(epochs)
            if lost:
                await self._fenced(frozenset(lost))

    def _caught_up(self, held: HeldPartition) -> bool:
        return all(self._reader.caught_up(tp) for tp in self._assigned if tp.partition == held.partition)

    async def _note_calm(self) -> None:
        idle = [held for held in self._readable() if not held.calm_noted and self._caught_up(held)]
        if idle:
            await self._calm(idle)

    async def _calm(self, idle: Sequence[HeldPartition]) -> None:
        await self._store.note_calm({held.partition: held.epoch for held in idle})
        for held in idle:
            held.calm_noted = True
            held.careful_records_left = 0

    # ---- deciding and appending ----

    async def _process(self, records: Sequence[Record]) -> None:
        self._membership.batch_began()
        try:
            by_partition: dict[int, list[DecodedRecord]] = {}
            for record in records:
                app = self._command_topics.app_of[record.topic]
                content = decode_command(app, record.key, record.value, record.partition, self._partitions)
                by_partition.setdefault(record.partition, []).append(DecodedRecord(app, record, content))
            try:
                outcome = await self._appender.append(self._held, by_partition)
            except RecordMismatchError as error:
                self._isolate(by_partition, error)
                return
        finally:
            self._membership.batch_ended()
        self._follow(outcome)
        if outcome.lost:
            await self._fenced(frozenset(outcome.lost))

    def _follow(self, outcome: AppendOutcome) -> None:
        """Memory and relay follow what is committed."""
        if outcome.clock is not None:
            self._set_clock(outcome.clock)
        for plan in outcome.plans:
            partition = plan.held.partition
            own = {event.position: event for event in plan.events} if plan.replays else {}
            replays = [own.get(position) or outcome.replays[position] for position in plan.replays]
            plan.commit()
            self._relay.noted(partition, outcome.published_sequences[partition])
            self._relay.add(partition, plan.events, replays)
        for partition, because in outcome.failed.items():
            self._halt(self._held[partition], because)

    def _isolate(self, by_partition: Mapping[int, Sequence[DecodedRecord]], error: Exception) -> None:
        """The record refuses this batch for a reason that no waiting mends: find the one command that it refuses, by
        trying each alone, and halt that partition only."""
        held = [self._held[partition] for partition in by_partition]
        log.error("the record refuses a batch", partitions=[one.partition for one in held], error=str(error))
        alone = len(held) == 1 and len(by_partition[held[0].partition]) == 1
        for one in held:
            if alone:
                self._halt(one, f"the record refuses {self._tried(by_partition)}: {error}; run `ledger verify`")
            else:
                one.careful_records_left = CAREFUL_RECORDS_MAX
        self._reassign = True

    @staticmethod
    def _tried(by_partition: Mapping[int, Sequence[DecodedRecord]]) -> str:
        return ", ".join(
            f"{one.record.topic}:{one.record.partition}:{one.record.offset}"
            for records in by_partition.values()
            for one in records
        )

    # ---- losing, leaving, saying ----

    async def _fenced(self, partitions: frozenset[int]) -> None:
        log.warning("fenced: other consumers hold these partitions", partitions=sorted(partitions))
        await self._rejoin()

    def _set_clock(self, clock: datetime) -> None:
        ahead_s = self._clock.set(clock)
        skewed = abs(ahead_s) > SKEW_ALARM_S
        if skewed and not self._skewed:
            log.error("CLOCK SKEW: this machine's clock and the database's differ; set both by NTP", ahead_s=ahead_s)
        self._skewed = skewed

    def _say_away(self, error: Exception) -> None:
        if self._away != str(error):
            self._away = str(error)
            log.warning("waiting: a server is away", error=str(error))

    def _say_back(self) -> None:
        if self._away is not None:
            self._away = None
            log.info("the servers are back")
