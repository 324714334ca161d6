"""The partitions that this process holds: claimed, compared with what is published, halted, given up."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import structlog

from consumers.held_partition import HeldPartition
from consumers.known_heads import KnownHeads, contradicted
from consumers.record_clock import SKEW_ALARM_S, SKEW_LIMIT_S, RecordClock
from consumers.relay import Relay
from consumers.takeover import check_published
from ledger.broker.protocol import RecordReader
from ledger.event_store.protocol import TRYING_CLAIMS_MAX, EventStore, Halt, StoreUnavailableError
from ledger.messages.topics import Topics

HOLD_CHECK_S: Final = 5.0
"""How often a holder says that it lives, and learns whether it still is one: a busy one learns it from the fence."""

TAIL_RETRY_S: Final = 3.0
"""How soon the end of a partition of the events that could not be read (it has no leader) is asked for again."""

log: Final = structlog.get_logger("ledger.consumer")


class Holdings:
    """Changed by the loop alone, between two polls. `changed` says that what is read must be assigned anew."""

    def __init__(
        self,
        *,
        holder: str,
        store: EventStore,
        relay: Relay,
        tail_reader: RecordReader,
        topics: Topics,
        partitions: int,
        clock: RecordClock,
        skew_limit_s: float = SKEW_LIMIT_S,
    ) -> None:
        self.held: dict[int, HeldPartition] = {}
        self.changed = True
        self._holder = holder
        self._store = store
        self._relay = relay
        self._tail_reader = tail_reader
        self._topics = topics
        self._partitions = partitions
        self._clock = clock
        self._skew_limit_s = skew_limit_s
        self._skewed = False
        self._waits_because: str | None = None
        """Why nothing at all is decided here until the clocks agree again."""
        self._tails_asked_at: float | None = None
        self._tailless: frozenset[int] = frozenset()
        self._in_doubt: dict[int, int] = {}
        self._known_heads = KnownHeads()
        self._checked_at = 0.0

    def readable(self) -> list[HeldPartition]:
        """What may be read now."""
        if self._waits_because is not None:
            return []
        return [held for held in self.held.values() if held.published_checked and held.halted_because is None]

    def next_careful(self) -> HeldPartition | None:
        """What is to be read carefully next, if anything. Last those where a holder died over a record that it had
        named: should that record kill this process too, the others have gone on by then."""
        careful = [held for held in self.readable() if held.careful]
        return min(careful, key=lambda held: held.suspect, default=None)

    async def take_over(self, wanted: frozenset[int], turned: Callable[[], None]) -> frozenset[int]:
        """Give up what is not wanted and claim what is; returns the partitions that another one has claimed meanwhile.

        Raises:
            StoreUnavailableError, BrokerUnavailableError, TailTimeoutError: call it again later.
        """
        given_up = [held for partition, held in self.held.items() if partition not in wanted]
        if given_up:
            self.drop([held.partition for held in given_up])
            await self._release(given_up)
        for partition in sorted(wanted - self.held.keys()):
            turned()
            if not await self._claim(partition):
                return frozenset({partition})
        await self._check_published()
        return frozenset()

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget these at once, without a word to the record."""
        for partition in list(partitions):
            self._relay.end(partition)
            held = self.held.pop(partition, None)
            if held is not None and not held.contradicted:
                self._known_heads.note(held)
        self.changed = True

    def compare_logs(self) -> None:
        """Before anything more is consumed: nobody has watched the logs for a while."""
        for held in self.held.values():
            held.forget_logs()
        self.changed = True

    def drop_all(self) -> None:
        """What a fenced member holds may have been claimed by others: it gives everything up."""
        self.drop(self.held)
        self._in_doubt.clear()

    def doubt_all(self) -> None:
        """A batch may be in the record or not: only new claims, each on condition that it is still ours, tell."""
        self._in_doubt = {held.partition: held.epoch for held in self.held.values()}
        self.drop(self.held)

    def halt(self, held: HeldPartition, because: str, record: str | None = None) -> None:
        """Nothing of this partition is consumed any more; the others go on. `record` (`app:partition:offset`) names the
        one at which it stands, where one is to blame: an operator can put it aside."""
        held.halted_because = because
        held.halted_record = record
        self.changed = True
        log.error(
            "HALTED: this partition stands still until an operator acts", partition=held.partition, because=because
        )

    def halt_app(self, held: HeldPartition, app: str, because: str) -> None:
        """Nothing of this app is consumed on this partition any more; other apps and partitions go on."""
        held.halted_apps[app] = because
        self.changed = True
        log.error(
            "HALTED: nothing of this app is consumed on this partition until an operator acts",
            app=app,
            partition=held.partition,
            because=because,
        )

    async def note_halts(self) -> None:
        """Write the halts, and their ends, where `ledger status` finds them."""
        for held in self.held.values():
            halt = Halt(held.halted_because or self._waits_because, held.halted_record, dict(held.halted_apps))
            if halt != held.noted_halt:
                await self._store.note_halted(held.partition, held.epoch, halt)
                held.noted_halt = halt

    async def calm(self, idle: Sequence[HeldPartition]) -> None:
        """The input of these is at its end: no record of theirs kills anybody."""
        await self._store.note_calm({held.partition: held.epoch for held in idle})
        for held in idle:
            held.calm_noted = True
            held.careful_records_left = 0

    async def check(self) -> frozenset[int]:
        """Every HOLD_CHECK_S: the partitions that others have claimed.

        A stale member's late claim fences an idle holder without its knowing, and the stale member lets go again. What
        an operator has taken is dropped, and claimed again by the next `take_over`.
        """
        now = asyncio.get_running_loop().time()
        if now - self._checked_at < HOLD_CHECK_S:
            return frozenset()
        self._checked_at = now
        await self.compare()
        return await self.lost_among(self.held)

    async def lost_among(self, partitions: Iterable[int]) -> frozenset[int]:
        """Which of these, held until now or in doubt, another consumer has claimed.

        Those that were taken and are free again, as an operator's intervention leaves them, are no longer held and not
        lost: nobody else works on them, and this process still may.
        """
        asked = frozenset(partitions)
        epochs = {held.partition: held.epoch for held in self.held.values() if held.partition in asked}
        epochs = {partition: epoch for partition, epoch in self._in_doubt.items() if partition in asked} | epochs
        alive = await self._store.note_alive(epochs)
        if alive.clock is not None:
            self.set_clock(alive.clock)
        if alive.released:
            log.info("an operator has acted, claiming again", partitions=sorted(alive.released))
            self.drop(alive.released)
            for partition in alive.released:
                self._in_doubt.pop(partition, None)
        return frozenset(epochs.keys() - alive.held - alive.released)

    def check_soon(self) -> None:
        """A server was away: what answers now may not be what answered before, so look at it before anything else."""
        self.changed = True
        self._checked_at = float("-inf")

    async def compare(self) -> bool:
        """Compare what is held, between two batches, with the record; whether something was halted because it differs.

        A database that was swapped for an older copy while nothing was under way would not be noticed otherwise.
        """
        holding = [held for held in self.held.values() if held.halted_because is None]
        wrong = contradicted(holding, await self._store.read_heads([held.partition for held in holding]))
        for partition, because in wrong.items():
            self._relay.end(partition)  # it may hold events that the record has lost
            self._known_heads.note(self.held[partition])
            self.held[partition].contradicted = True
            self.halt(self.held[partition], because)
        return bool(wrong)

    async def release_all(self) -> bool:
        """A clean end; whether the record knows of it."""
        try:
            await self._release(self.held.values())
        except StoreUnavailableError as error:
            log.warning("leaving without a word to the record", error=str(error))
            return False
        return True

    def set_clock(self, clock: datetime) -> None:
        """Take the record's clock, and say when this machine's differs."""
        ahead_s = self._clock.set(clock)
        skewed = abs(ahead_s) > SKEW_ALARM_S
        if skewed and not self._skewed:
            log.error("CLOCK SKEW: this machine's clock and the database's differ; set both by NTP", ahead_s=ahead_s)
        self._skewed = skewed
        waits = abs(ahead_s) > self._skew_limit_s
        if waits == (self._waits_because is not None):
            return
        self.changed = True
        if waits:
            self._waits_because = (
                f"CLOCK SKEW: the clock of {self._holder} differs from the database's by {ahead_s:+.0f} s, more than "
                f"{self._skew_limit_s:g} s: not_after would be judged wrongly; set both clocks by NTP, and it goes on "
                "by itself (docs/operating.md, 'Clocks')"
            )
            log.error("HALTED: nothing is decided until the clocks agree", because=self._waits_because)
        else:
            self._waits_because = None
            log.warning("the clocks agree again, going on", ahead_s=ahead_s)

    async def _release(self, given_up: Iterable[HeldPartition]) -> None:
        # Halted partitions keep their count of tries, so that a record that kills is not tried anew wherever they move.
        epochs = {held.partition: held.epoch for held in given_up if held.halted_because is None}
        if epochs:
            await self._store.note_calm(epochs, release=True)

    async def _claim(self, partition: int) -> bool:
        claim = await self._store.claim(partition, self._holder, self._in_doubt.get(partition))
        if claim is None:
            return False
        self._in_doubt[partition] = claim.epoch
        because = await self._known_heads.contradiction(self._store, claim)
        del self._in_doubt[partition]
        self.set_clock(claim.clock)
        held = HeldPartition(claim, self._partitions)
        log.info("claimed", partition=partition, epoch=claim.epoch, sequence=claim.sequence)
        self.held[partition] = held
        self.changed = True
        if because is not None:
            held.contradicted = held.published_checked = True  # nothing of it is published any more
            self.halt(held, because)
        elif claim.trying_claims >= TRYING_CLAIMS_MAX:
            self.halt(
                held,
                f"the record {_record_name(claim.trying, partition)} was tried {claim.trying_claims} times, and each "
                "time the process died; run a version that survives it, then "
                f"`ledger recover partition {partition}`, or put it into quarantine: `ledger recover record "
                f"{_record_name(claim.trying, partition)}` (docs/operating.md, 'A record that kills the consumer')",
                _record_name(claim.trying, partition),
            )
        return True

    async def _check_published(self) -> None:
        unchecked = {held.partition: held.sequence for held in self.held.values() if not held.published_checked}
        now = asyncio.get_running_loop().time()
        waited = self._tails_asked_at is None or now - self._tails_asked_at >= TAIL_RETRY_S
        if unchecked and (waited or unchecked.keys() - self._tailless):
            found = await check_published(self._tail_reader, self._store, self._topics, unchecked)
            self._tails_asked_at = asyncio.get_running_loop().time()
            tailless = unchecked.keys() - found.keys()
            if tailless - self._tailless:
                log.error(
                    "WAITING: the ends of the published events cannot be read; the other partitions go on",
                    topic=self._topics.events,
                    partitions=sorted(tailless),
                )
            self._tailless = frozenset(tailless)
            for partition, because in found.items():
                held = self.held[partition]
                held.published_checked = True
                self.changed = True
                if because is not None:
                    self.halt(held, because)
                else:
                    # Not before the comparison: what an older copy of the record publishes again would lie behind the
                    # events that it lacks, and the end of the topic would look right, now or at the next start.
                    self._relay.begin(partition, held.epoch, held.published_at_claim, held.sequence)


def _record_name(trying: str | None, partition: int) -> str:
    """`app:offset`, as the head keeps it, as operators name it: `app:partition:offset`."""
    app, _, offset = (trying or "").partition(":")
    return f"{app}:{partition}:{offset}"


def undecidable_to_do(partition: int, record: str) -> str:
    """What an operator can do about a record at which a partition stands."""
    return (
        "run operations that can decide it (`ledger verify` tells whether the record is sound), then `ledger recover "
        f"partition {partition}`, or put it into quarantine: `ledger recover record {record}` (docs/operating.md, 'A "
        "record that cannot be decided')"
    )
