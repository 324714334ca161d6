"""What an operator changes in the record by hand: each in one transaction, fenced, and recorded for ever.

Everything here acts as `ledger_owner` and takes the partitions from whoever holds them (their epochs rise): a consumer
that runs notices within seconds and claims them again. What may be done when is decided by whoever calls; what is
written down here is checked again under the lock.
"""

import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from ledger.broker.protocol import Record
from ledger.event_store.protocol import ConsumedMark
from ledger.sql_files import sql

SET_ASIDE: Final = "SET_ASIDE"
"""The reason by which a record lies in quarantine that an operator put there."""

LIST_ROWS_MAX: Final = 1_000
_PACKAGE: Final = "ledger.event_store"
_NOBODY_TO_COMPARE: Final = b"\0" * 16


class InterventionRefusedError(Exception):
    """It does not apply (any more); nothing was changed."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Who does it, and why."""

    operator: str
    reason: str


@dataclass(frozen=True, slots=True)
class Intervention:
    """What was done once. `before` and `after` are what was changed, by name."""

    number: int
    made_at: datetime
    operator: str
    kind: str
    subject: str
    reason: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredMark:
    """How far an app's log is consumed on a partition, and which of its logs that is."""

    partition: int
    mark: ConsumedMark
    generation: int


@dataclass(frozen=True, slots=True)
class MarkChange:
    """Where an app's commands of a partition are to be read on: from `next_offset`, whatever lies before."""

    partition: int
    before: StoredMark | None
    next_offset: int
    new_log: bool
    """Whether a new generation of the log begins there."""


async def list_interventions(connection: asyncpg.Connection, limit: int = LIST_ROWS_MAX) -> Sequence[Intervention]:
    """The latest interventions, newest first. `connection` is of ledger_reader."""
    rows = await connection.fetch(sql(_PACKAGE, "list_interventions"), min(limit, LIST_ROWS_MAX))
    return [
        Intervention(**{**row, "before": json.loads(row["before"]), "after": json.loads(row["after"])}) for row in rows
    ]


async def read_marks_of(connection: asyncpg.Connection, app: str) -> dict[int, StoredMark]:
    """How far an app's commands are consumed, by partition."""
    rows = await connection.fetch(sql(_PACKAGE, "recover_marks"), app)
    return {
        row["partition"]: StoredMark(
            row["partition"],
            ConsumedMark(row["next_offset"], row["last_offset"], row["last_timestamp_ms"], row["last_digest"]),
            row["generation"],
        )
        for row in rows
    }


async def resume_partitions(connection: asyncpg.Connection, partitions: Collection[int], deed: Deed) -> Intervention:
    """Let halted partitions be claimed and tried again.

    Raises:
        InterventionRefusedError: one of them is not halted.
    """
    async with _intervening(connection, partitions) as heads:
        for head in heads:
            if not is_halted(head):
                raise InterventionRefusedError(f"partition {head['partition']} is not halted")
        await connection.execute(sql(_PACKAGE, "release_heads"), list(partitions))
        subject = "partition " + ", ".join(str(head["partition"]) for head in heads)
        return await _record(connection, deed, "resume", subject, _heads(heads), {"epoch": "+1", "halted": None})


async def set_aside(
    connection: asyncpg.Connection, app: str, record: Record, before: StoredMark | None, after: ConsumedMark, deed: Deed
) -> Intervention:
    """Put the record at which a partition stands into quarantine, and go on behind it.

    Raises:
        InterventionRefusedError: the partition does not stand at it, or somebody consumed it meanwhile.
    """
    name = f"{app}:{record.partition}:{record.offset}"
    async with _intervening(connection, [record.partition]) as heads:
        if not stands_at(heads[0], app, record.offset):
            raise InterventionRefusedError(f"partition {record.partition} does not stand at {name} (any more)")
        await _unchanged(connection, app, record.partition, before)
        generation = 1 if before is None else before.generation
        detail = f"put aside by {deed.operator}: {deed.reason}"
        await connection.execute(
            sql(_PACKAGE, "set_aside_record"),
            app,
            record.partition,
            record.offset,
            record.timestamp_ms,
            SET_ASIDE,
            detail,
            record.key,
            record.value,
            generation,
        )
        await connection.execute(sql(_PACKAGE, "set_mark"), app, record.partition, *after, generation)
        await connection.execute(sql(_PACKAGE, "count_consumed"), record.partition)
        await connection.execute(sql(_PACKAGE, "release_heads"), [record.partition])
        changed = {"next_offset": after.next_offset, "quarantined": name}
        old = _heads(heads) | {"next_offset": None if before is None else before.mark.next_offset}
        return await _record(connection, deed, "set-aside", f"record {name}", old, changed)


async def move_marks(
    connection: asyncpg.Connection, kind: str, app: str, changes: Sequence[MarkChange], deed: Deed
) -> Intervention:
    """Read an app's commands on from elsewhere, in the same log or in a new one.

    Raises:
        InterventionRefusedError: somebody consumed of it meanwhile.
    """
    partitions = [change.partition for change in changes]
    async with _intervening(connection, partitions) as heads:
        after: dict[str, Any] = {}
        for change in changes:
            await _unchanged(connection, app, change.partition, change.before)
            generation = 1 if change.before is None else change.before.generation
            if change.new_log:
                assert change.before is not None, "a log of which nothing was consumed has no successor"
                generation += 1
                await connection.execute(
                    sql(_PACKAGE, "insert_generation"),
                    app,
                    change.partition,
                    generation,
                    change.before.mark.next_offset,
                )
            # The last consumed record is said to lie right before: where the log begins, so that nothing is compared.
            mark = ConsumedMark(change.next_offset, change.next_offset - 1, 0, _NOBODY_TO_COMPARE)
            await connection.execute(sql(_PACKAGE, "set_mark"), app, change.partition, *mark, generation)
            after[str(change.partition)] = {"next_offset": change.next_offset, "generation": generation}
        await connection.execute(sql(_PACKAGE, "release_heads"), partitions)
        marks = {
            str(change.partition): change.before
            and {"next_offset": change.before.mark.next_offset, "generation": change.before.generation}
            for change in changes
        }
        return await _record(connection, deed, kind, f"app {app}", _heads(heads) | {"marks": marks}, {"marks": after})


async def publish_again(
    connection: asyncpg.Connection,
    partitions: Collection[int],
    deed: Deed,
    kind: str = "publish-again",
    given_up: Mapping[str, str] | None = None,
) -> Intervention:
    """Let every event of these partitions be published again, from the first one on. `given_up`: in words, by
    partition, which published events the record has lost and goes on without."""
    async with _intervening(connection, partitions) as heads:
        await connection.execute(sql(_PACKAGE, "republish_heads"), list(partitions))
        await connection.execute(sql(_PACKAGE, "release_heads"), list(partitions))
        published = {str(head["partition"]): head["published_sequence"] for head in heads}
        before: dict[str, Any] = {"published_sequence": published}
        if given_up:
            before["given_up"] = dict(given_up)
        subject = "partition " + ", ".join(published)
        return await _record(connection, deed, kind, subject, before, {"published_sequence": 0})


async def open_imported(
    connection: asyncpg.Connection,
    apps: Collection[str],
    epochs: Mapping[int, int],
    deed: Deed,
    source: Mapping[str, Any],
) -> Intervention:
    """End an import (`service.moving`): the real logs of these apps begin behind the imported history, and the ledger
    may be started.

    Args:
        connection: of `ledger_owner`.
        apps: all of the imported record.
        epochs: of the import's claims, by partition.
        deed: who imports, and why.
        source: what was imported, for the record.

    Raises:
        InterventionRefusedError: somebody else has claimed a partition meanwhile.
    """
    async with _intervening(connection, epochs) as heads:
        taken = [head["partition"] for head in heads if head["epoch"] != epochs[head["partition"]]]
        if taken:
            raise InterventionRefusedError(f"partition {', '.join(map(str, taken))} was claimed meanwhile")
        begins = ConsumedMark(0, -1, 0, _NOBODY_TO_COMPARE)
        for app in sorted(apps):
            marks = await read_marks_of(connection, app)
            generations = [(app, partition, 2, marks[partition].mark.next_offset) for partition in sorted(epochs)]
            await connection.executemany(sql(_PACKAGE, "insert_generation"), generations)
            await connection.executemany(
                sql(_PACKAGE, "set_mark"), [(app, partition, *begins, 2) for partition in sorted(epochs)]
            )
        await connection.execute(sql(_PACKAGE, "release_heads"), list(epochs))
        subject = f"ledger {source['ledger_id']}"
        after = {"sequences": {str(head["partition"]): head["sequence"] for head in heads}}
        return await _record(connection, deed, "import-record", subject, source, after)


def is_halted(head: Mapping[str, Any]) -> bool:
    """Whether a head says that its partition stands still, wholly or for some app."""
    return bool(head["halted_because"] or head["halted_apps"])


def stands_at(head: Mapping[str, Any], app: str, offset: int) -> bool:
    """Whether a head says that its partition stands at this record, or is trying it alone after it killed a holder."""
    return bool(head["halted_record"] == f"{app}:{head['partition']}:{offset}" or head["trying"] == f"{app}:{offset}")


@asynccontextmanager
async def _intervening(connection: asyncpg.Connection, partitions: Collection[int]) -> AsyncIterator[Sequence[Any]]:
    """One transaction that holds the heads of these partitions; gives them as they are."""
    try:
        async with connection.transaction():
            await connection.execute(sql(_PACKAGE, "bound_lock_waits"))
            heads = await connection.fetch(sql(_PACKAGE, "recover_heads"), sorted(partitions))
            missing = set(partitions) - {head["partition"] for head in heads}
            if missing:
                raise InterventionRefusedError(f"the ledger has no partition {', '.join(map(str, sorted(missing)))}")
            yield heads
    except asyncpg.LockNotAvailableError as error:
        raise InterventionRefusedError(
            "a holder of these partitions is in mid-transaction and does not end it; see `ledger partitions`, end that "
            "process, then try again"
        ) from error


async def _unchanged(connection: asyncpg.Connection, app: str, partition: int, before: StoredMark | None) -> None:
    if (await read_marks_of(connection, app)).get(partition) != before:
        raise InterventionRefusedError(f"{app} was consumed on partition {partition} meanwhile; look again")


async def _record(
    connection: asyncpg.Connection,
    deed: Deed,
    kind: str,
    subject: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
) -> Intervention:
    texts = [json.dumps(values, ensure_ascii=False) for values in (before, after)]
    row = await connection.fetchrow(
        sql(_PACKAGE, "insert_intervention"), deed.operator, kind, subject, deed.reason, *texts
    )
    assert row is not None
    return Intervention(row["number"], row["made_at"], deed.operator, kind, subject, deed.reason, before, after)


def _heads(heads: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    names = ("epoch", "holder", "halted_because", "halted_record", "halted_apps", "trying", "trying_claims")
    return {"heads": {str(head["partition"]): {name: head[name] for name in names} for head in heads}}
