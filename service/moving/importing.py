"""`ledger import-record`: an export becomes the history of a new ledger, of whatever number of partitions.

Every event keeps what it says: command id, nonce, amount, balance, version, times, metadata. It gets a new place
(partition, sequence), and so a new hash; where it names the place of another event (DUPLICATE_NONCE), it names the new
one. The order of the export is kept, so every owner's events stay in their order.

To the new ledger the imported history is the first generation of each app's log, with offsets of its own. While it is
being imported the marks say that these offsets are consumed, so a ledger consumer that is started too early finds that
its topics end before them, and halts. The last step begins the second generation, which are the real topics.

Cut short it is given again: every batch is one transaction over all partitions, so the record always holds a beginning
of the export, which is computed again and compared by its hashes.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ledger.event_store.protocol import (
    AppendBatch,
    Appended,
    Claim,
    EventStore,
    Fenced,
    OffsetAdvance,
    QuarantinedRecord,
)
from ledger.messages.partitioning import partition_of
from service.archiving.lines import ArchivedEvent
from service.moving.export_files import Manifest, QuarantinedLine
from service.moving.placing import ImportRefusedError, Placed, Target, imported_mark, place

BATCH_EVENTS_MAX: Final = 2_000
"""Events of one transaction."""

BATCH_QUARANTINED_MAX: Final = 20
"""Quarantined messages of one transaction: each may be as large as a broker takes."""

FIRST_OFFSET: Final = 1
"""Of the imported events of an app on a partition. Offset 0 is consumed from the beginning, so that a mark says so."""

WAITING: Final = "waiting"

Progress = Callable[[int, int], None]
"""Takes how many events are done, and of how many."""


@dataclass(frozen=True, slots=True)
class ImportedRecord:
    """What the new ledger holds now, and how it is held: for the last step (`open_imported`)."""

    epochs: Mapping[int, int]
    """By partition."""
    sequences: Mapping[int, int]
    events: int
    quarantined: int
    """Messages that still wait in quarantine."""


class RecordImporter:
    """One import, under claims of its own on all partitions."""

    def __init__(self, store: EventStore, manifest: Manifest, holder: str, progress: Progress) -> None:
        self._store = store
        self._manifest = manifest
        self._holder = holder
        self._progress = progress
        self._targets: list[Target] = []

    async def run(self, events: Iterable[ArchivedEvent], quarantine: Iterable[QuarantinedLine]) -> ImportedRecord:
        """Append what the record does not hold yet.

        Args:
            events: all of the export, in its order.
            quarantine: all of the export's quarantine; what is resolved stays in the export.

        Raises:
            ImportRefusedError: the ledger is no new one, holds something else, or somebody else has claimed it.
            ExportError: the export is damaged.
            StoreUnavailableError, CommitOutcomeUnknownError: Postgres is away: give it again.
        """
        claims = await self._claim_all()
        already = sum(claim.sequence for claim in claims)
        total = self._manifest.events
        self._progress(0, total)
        if already > total:
            raise ImportRefusedError(f"this ledger holds {already} events, the export only {total}: it is no new one")
        incoming = iter(events)
        done = 0
        # What is there already is only computed again, in the same parts.
        while done < already and (some := _next(incoming, min(BATCH_EVENTS_MAX, already - done))):
            await place(self._store, self._targets, some)
            done += len(some)
            self._progress(done, total)
        self._require_same(claims)
        while some := _next(incoming, BATCH_EVENTS_MAX):
            before = {target.partition: target.sequence for target in self._targets}
            await self._append(before, await place(self._store, self._targets, some))
            done += len(some)
            self._progress(done, total)
        quarantined = await self._append_quarantine(claims, quarantine)
        return ImportedRecord(
            {target.partition: target.epoch for target in self._targets},
            {target.partition: target.sequence for target in self._targets},
            done,
            quarantined,
        )

    async def _claim_all(self) -> list[Claim]:
        identity = await self._store.identity()
        if identity.ledger_id == self._manifest.ledger_id:
            raise ImportRefusedError(
                f"this is ledger {identity.ledger_id}, which the export is of; name a new database"
            )
        claims = []
        for partition in range(identity.partitions):
            claim = await self._store.claim(partition, self._holder)
            assert claim is not None, "a claim without a condition"
            claims.append(claim)
        apps = set(self._manifest.apps)
        for claim in claims:
            if any(generation > 1 for generation in claim.generations.values()):
                raise ImportRefusedError("an export was imported into this ledger before: compare the two")
            if not set(claim.marks) <= apps:
                raise ImportRefusedError(f"partition {claim.partition} has been in use: this is no new ledger")
        self._targets = [Target(claim.partition, claim.epoch) for claim in claims]
        for target in self._targets:
            target.offsets = dict.fromkeys(self._manifest.apps, FIRST_OFFSET)
        if not any(claim.marks for claim in claims):
            if any(claim.sequence for claim in claims):
                raise ImportRefusedError("this ledger holds events that no import has brought: it is no new one")
            await self._begin()
        return claims

    async def _begin(self) -> None:
        """Say of every app on every partition that something of its log is consumed: see the module."""
        batch = AppendBatch(heads=[target.advance(0, 0) for target in self._targets])
        begun = imported_mark(FIRST_OFFSET)
        batch.offsets = [
            OffsetAdvance(app, target.partition, None, begun) for target in self._targets for app in target.offsets
        ]
        await self._commit(batch)

    def _require_same(self, claims: Sequence[Claim]) -> None:
        for claim, target in zip(claims, self._targets, strict=True):
            if (claim.sequence, claim.hash) != (target.sequence, target.hash):
                raise ImportRefusedError(
                    f"partition {claim.partition} ends at {claim.sequence} with another hash than this export gives "
                    f"({target.sequence}): it holds something else, or another export was begun here; take a new "
                    "database"
                )

    async def _append(self, before: Mapping[int, int], placed: Placed) -> None:
        moved = [target for target in self._targets if target.sequence > before[target.partition]]
        batch = AppendBatch(
            heads=[
                target.advance(before[target.partition], target.sequence - before[target.partition]) for target in moved
            ],
            events=placed.rows,
            command_keys=placed.command_keys,
            nonce_keys=placed.nonce_keys,
            accounts=placed.accounts,
        )
        batch.offsets = [
            self._targets[partition].consumed(app, count) for (app, partition), count in placed.consumed.items()
        ]
        await self._commit(batch)

    async def _append_quarantine(self, claims: Sequence[Claim], lines: Iterable[QuarantinedLine]) -> int:
        """Those that wait; the others stay in the export, as what was done about them."""
        there = Counter(
            {
                (app, claim.partition): mark.next_offset - self._targets[claim.partition].offsets[app]
                for claim in claims
                for app, mark in claim.marks.items()
            }
        )
        # Before the events were complete nothing of the quarantine was there.
        waiting = (line for line in lines if line.status == WAITING)
        count = 0
        while some := _next_lines(waiting, BATCH_QUARANTINED_MAX):
            batch = AppendBatch()
            consumed: Counter[tuple[str, int]] = Counter()
            for line in some:
                count += 1
                target = self._targets[self._home(line)]
                place = (line.app, target.partition)
                offset = target.offsets[line.app]
                target.offsets[line.app] = offset + 1
                if there[place] > 0:
                    there[place] -= 1
                    continue
                consumed[place] += 1
                batch.quarantine.append(_quarantined(line, target.partition, offset))
            per_partition: Counter[int] = Counter()
            for (_, partition), number in consumed.items():
                per_partition[partition] += number
            batch.heads = [
                self._targets[partition].advance(self._targets[partition].sequence, number)
                for partition, number in per_partition.items()
            ]
            batch.offsets = [
                self._targets[partition].consumed(app, number) for (app, partition), number in consumed.items()
            ]
            if batch.heads:
                await self._commit(batch)
        return count

    def _home(self, line: QuarantinedLine) -> int:
        # Whatever its key is worth, that is where a retry of it will go.
        return line.partition % len(self._targets) if line.key is None else partition_of(line.key, len(self._targets))

    async def _commit(self, batch: AppendBatch) -> None:
        batch.heads.sort(key=lambda head: head.partition)
        result = await self._store.append(batch)
        if isinstance(result, Fenced):
            raise ImportRefusedError(
                f"somebody else has claimed partition {', '.join(map(str, sorted(result.partitions)))}: stop all "
                "ledger consumers of this ledger (and other imports), then give the import again"
            )
        if not isinstance(result, Appended):
            raise ImportRefusedError(
                "the record holds a command id or a nonce of this export already: it is no new ledger, or the export "
                "holds one twice; run `ledger verify` on the old ledger"
            )


def _next(events: Iterator[ArchivedEvent], limit: int) -> list[ArchivedEvent]:
    return list(islice(events, limit))


def _next_lines(lines: Iterator[QuarantinedLine], limit: int) -> list[QuarantinedLine]:
    return list(islice(lines, limit))


def _quarantined(line: QuarantinedLine, partition: int, offset: int) -> QuarantinedRecord:
    return QuarantinedRecord(
        line.app, partition, offset, line.timestamp_ms, line.reason, line.detail, line.key, line.value
    )
