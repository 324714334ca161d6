"""Decides a poll's records and appends them in one transaction: decides again whenever the record knows more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from consumers.batch import (
    DecodedRecord,
    Facts,
    PartitionPlan,
    UndecidableError,
    accounts_to_load,
    decide_partition,
)
from consumers.held_partition import HeldPartition
from consumers.record_clock import RecordClock
from ledger.domain.command import Command
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.domain.rules import AppRules
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import AppendBatch, Appended, EventStore, Fenced, RecordMismatchError

DECISIONS_OF_A_BATCH_MAX: Final = 1_000
"""Times that one batch may be decided again after look-ups: more means that look-ups and keys contradict each other."""

log: Final = structlog.get_logger("ledger.consumer")


@dataclass(frozen=True, slots=True)
class Undecidable:
    """A record on which deciding raised."""

    record: str
    """`app:partition:offset`"""
    because: str


@dataclass(slots=True)
class AppendOutcome:
    """What became of one poll's records."""

    plans: list[PartitionPlan] = field(default_factory=list)
    """Committed; the caller lets memory and relay follow."""
    published_sequences: dict[int, int] = field(default_factory=dict)
    """The trailing marks that were committed with them."""
    replays: dict[Position, RecordedEvent] = field(default_factory=dict)
    """First events, recorded earlier, that are to be given again."""
    clock: datetime | None = None
    """The record's clock at the commit."""
    lost: set[int] = field(default_factory=set)
    """Partitions that other consumers hold by now: nothing of them was committed."""
    failed: dict[int, Undecidable] = field(default_factory=dict)
    """Partitions on which deciding raised: what lies before that record may be committed, nothing else of them."""


class BatchAppender:
    """One poll, one transaction."""

    def __init__(
        self,
        store: EventStore,
        rules: Mapping[str, AppRules],
        clock: RecordClock,
        published_sequence: Callable[[int], int],
    ) -> None:
        self._store = store
        self._rules = rules
        self._clock = clock
        self._published_sequence = published_sequence

    async def append(
        self, held: Mapping[int, HeldPartition], records: Mapping[int, Sequence[DecodedRecord]]
    ) -> AppendOutcome:
        """Decide and append the records of each held partition.

        Raises:
            StoreUnavailableError, RecordMismatchError: nothing was committed.
            CommitOutcomeUnknownError: all or nothing was committed.
        """
        remaining = dict(records)
        facts = Facts()
        outcome = AppendOutcome()
        for _ in range(DECISIONS_OF_A_BATCH_MAX):
            plans = await self._decide(held, remaining, facts, outcome)
            if not plans:
                return outcome
            replays = await self._replays(plans)
            batch = AppendBatch()
            for plan in plans:
                plan.add_to(batch, self._published_sequence(plan.held.partition))
            result = await self._store.append(batch)
            if isinstance(result, Appended):
                outcome.plans = plans
                outcome.replays = replays
                outcome.clock = result.clock
                outcome.published_sequences = {head.partition: head.published_sequence for head in batch.heads}
                return outcome
            if isinstance(result, Fenced):
                # One lost partition must not hold up the others: they are decided again without it.
                outcome.lost |= result.partitions
                for partition in result.partitions:
                    del remaining[partition]
            else:
                await self._look_up_all(remaining, facts)
        raise RecordMismatchError("a key of this batch is refused, but the record does not show it")

    async def _decide(
        self,
        held: Mapping[int, HeldPartition],
        remaining: dict[int, Sequence[DecodedRecord]],
        facts: Facts,
        outcome: AppendOutcome,
    ) -> list[PartitionPlan]:
        for _ in range(DECISIONS_OF_A_BATCH_MAX):
            missing = {
                key
                for partition, records in remaining.items()
                for key in accounts_to_load(held[partition], records, facts)
            }
            if missing:
                facts.accounts.update(await self._store.load_accounts(missing))
            plans = []
            for partition, records in list(remaining.items()):
                plan = self._decide_partition(held[partition], records, facts, outcome)
                if plan is None:
                    del remaining[partition]
                else:
                    remaining[partition] = records[: plan.consumed]
                    plans.append(plan)
            commands = {key for plan in plans for key in plan.unasked_commands}
            nonces = {key for plan in plans for key in plan.unasked_nonces}
            if not commands and not nonces:
                return plans
            # No unique key fires for a command that is wrongly decided as rejected: so the record is asked first.
            facts.learn(commands, nonces, await self._store.look_up(commands, nonces))
        raise RecordMismatchError("a batch does not settle after look-ups; run `ledger verify`")

    def _decide_partition(
        self, held: HeldPartition, records: Sequence[DecodedRecord], facts: Facts, outcome: AppendOutcome
    ) -> PartitionPlan | None:
        """Decide these records, or those before the first that cannot be decided; None when that is the first."""
        while records:
            try:
                return decide_partition(held, records, self._rules, facts, self._clock.now())
            except UndecidableError as error:
                culprit, cause = records[error.index], error.__cause__
                log.error("deciding failed", record=culprit.name, exc_info=cause)
                outcome.failed[held.partition] = Undecidable(
                    culprit.name, f"deciding {culprit.name} failed: {type(cause).__name__}: {cause}"
                )
                records = records[: error.index]
        return None

    async def _look_up_all(self, remaining: Mapping[int, Sequence[DecodedRecord]], facts: Facts) -> None:
        commands = [
            decoded.content
            for records in remaining.values()
            for decoded in records
            if isinstance(decoded.content, Command)
        ]
        keys = {command_key(command.app, command.owner_id, command.command_id) for command in commands}
        nonces = {nonce_key(command.app, command.owner_id, command.nonce) for command in commands}
        facts.learn(keys, nonces, await self._store.look_up(keys, nonces))

    async def _replays(self, plans: Sequence[PartitionPlan]) -> dict[Position, RecordedEvent]:
        older = {position for plan in plans for position in plan.replays if position.sequence <= plan.held.sequence}
        return dict(await self._store.read_events_at(older)) if older else {}
