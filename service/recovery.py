"""What an operator can do about a partition or a log that stands still: first a plan, found in Kafka and the record,
then the deed, which the record keeps for ever.

A plan is refused where it does not apply, so that no command does more than its name says.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from consumers.held_partition import mark_of
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import Bounds, Record, TopicPartition
from ledger.event_store.interventions import (
    Deed,
    Intervention,
    MarkChange,
    StoredMark,
    is_halted,
    move_marks,
    read_marks_of,
    resume_partitions,
    set_aside,
    stands_at,
)
from ledger.event_store.overview import PartitionOverview, read_overview
from ledger.event_store.quarantine import QuarantineId
from service.wiring import Wiring

READ_LIMIT_S: Final = 10.0
"""How long one record of a log is waited for."""


class RecoveryError(Exception):
    """It does not apply; the text says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be done, in words, and how to do it."""

    steps: tuple[str, ...]
    apply: Callable[[asyncpg.Connection, Deed], Awaitable[Intervention]]


async def plan_resume(connection: asyncpg.Connection, partitions: Collection[int]) -> Plan:
    """Let halted partitions be tried again, as they are. Raises RecoveryError."""
    heads = {head.partition: head for head in (await read_overview(connection)).partitions}
    steps = []
    for partition in sorted(set(partitions)):
        head = heads.get(partition)
        if head is None:
            raise RecoveryError(f"the ledger has no partition {partition}")
        if not is_halted(_row(head)):
            raise RecoveryError(f"partition {partition} is not halted; see `ledger partitions`")
        why = "; ".join(filter(None, [head.halted_because, *head.halted_apps.values()]))
        steps.append(f"partition {partition} is tried again, from where it stands ({why})")
    wanted = sorted(set(partitions))
    return Plan(tuple(steps), lambda owner, deed: resume_partitions(owner, wanted, deed))


async def plan_record(connection: asyncpg.Connection, wiring: Wiring, name: str) -> Plan:
    """Put the record at which a partition stands into quarantine. Raises RecoveryError."""
    try:
        app, partition, _, offset = QuarantineId.parse(name)
    except ValueError as error:
        raise RecoveryError(f"not a record: {name!r}; expected APP:PARTITION:OFFSET, as the alarm says it") from error
    heads = {head.partition: head for head in (await read_overview(connection)).partitions}
    head = heads.get(partition)
    if head is None or not stands_at(_row(head), app, offset):
        at = None if head is None else head.halted_record
        raise RecoveryError(
            f"partition {partition} does not stand at {name}"
            + (f", but at {at}" if at else "; see `ledger partitions`")
        )
    before = (await read_marks_of(connection, app)).get(partition)
    place = TopicPartition(wiring.topics.commands(app), partition)
    reader = wiring.reader()
    await reader.start()
    try:
        begin = (await reader.bounds([place]))[place].start if before is None else before.mark.next_offset
        record = await _first_record(reader, place, begin)
    finally:
        await reader.stop()
    if record is None or record.offset != offset:
        raise RecoveryError(f"the next record of {place.topic} is {record and record.offset}, not {offset}: look again")
    after = mark_of(record)
    return Plan(
        (
            f"{name} goes into quarantine as it is, without an event; `ledger quarantine retry` or `discard` ends it",
            f"{app} is read on behind it on partition {partition}",
        ),
        lambda owner, deed: set_aside(owner, app, record, before, after, deed),
    )


async def plan_offsets(connection: asyncpg.Connection, wiring: Wiring, app: str) -> Plan:
    """Go on where retention has left the beginning of an app's logs. Raises RecoveryError."""
    marks = await read_marks_of(connection, app)
    bounds = await _bounds(connection, wiring, app)
    changes, steps = [], []
    for partition, bound in sorted(bounds.items()):
        before = marks.get(partition)
        consumed = 0 if before is None else before.mark.next_offset
        if bound.start > consumed:
            changes.append(MarkChange(partition, before, bound.start, new_log=False))
            steps.append(
                f"partition {partition}: {bound.start - consumed} offsets are lost ({consumed} to {bound.start - 1}), "
                f"{app} is read on from {bound.start}"
            )
    if not changes:
        raise RecoveryError(f"no log of {app} begins behind what was consumed of it")
    return Plan(tuple(steps), lambda owner, deed: move_marks(owner, "go-on-at-start", app, changes, deed))


async def plan_topic(connection: asyncpg.Connection, wiring: Wiring, app: str) -> Plan:
    """Begin with an app's new logs where the old ones are gone. Raises RecoveryError."""
    marks = await read_marks_of(connection, app)
    bounds = await _bounds(connection, wiring, app)
    topic = wiring.topics.commands(app)
    changes, steps = [], []
    reader = wiring.reader()
    await reader.start()
    try:
        for partition, before in sorted(marks.items()):
            bound = bounds.get(partition)
            if bound is None or not await _is_another_log(reader, TopicPartition(topic, partition), bound, before):
                continue
            changes.append(MarkChange(partition, before, bound.start, new_log=True))
            steps.append(
                f"partition {partition}: generation {before.generation + 1} of {topic} begins at offset {bound.start}; "
                f"of the log before it {before.mark.next_offset} offsets were consumed, and what lay behind is lost"
            )
    finally:
        await reader.stop()
    if not changes:
        raise RecoveryError(f"{topic} is the topic that was consumed: none of its logs is another one")
    return Plan(tuple(steps), lambda owner, deed: move_marks(owner, "begin-generation", app, changes, deed))


async def _bounds(connection: asyncpg.Connection, wiring: Wiring, app: str) -> dict[int, Bounds]:
    partitions = (await read_overview(connection)).identity.partitions
    topic = wiring.topics.commands(app)
    reader = wiring.reader()
    await reader.start()
    try:
        found = (await reader.partition_counts()).get(topic)
        if found != partitions:
            raise RecoveryError(
                f"{topic} has {found or 'no'} partitions instead of {partitions}; make it right first: "
                "`ledger topics sync`"
            )
        bounds = await reader.bounds([TopicPartition(topic, partition) for partition in range(partitions)])
    finally:
        await reader.stop()
    return {place.partition: bound for place, bound in bounds.items()}


async def _is_another_log(reader: KafkaRecordReader, place: TopicPartition, bound: Bounds, before: StoredMark) -> bool:
    """As `consumers.takeover` sees it: it ends before what was consumed, or holds another record there."""
    mark = before.mark
    if bound.end < mark.next_offset:
        return True
    if bound.start > mark.last_offset:
        return False  # retention has removed what could be compared
    record = await _first_record(reader, place, mark.last_offset)
    return record is None or mark_of(record) != mark


async def _first_record(reader: KafkaRecordReader, place: TopicPartition, offset: int) -> Record | None:
    """The first record from this offset on; None where the log has none."""
    reader.assign({place: offset})
    deadline = asyncio.get_running_loop().time() + READ_LIMIT_S
    while asyncio.get_running_loop().time() < deadline:
        records: Sequence[Record] = await reader.poll(1, 0.2)
        if records:
            return records[0]
        if reader.caught_up(place):
            return None
    raise RecoveryError(f"{place} does not answer within {READ_LIMIT_S:g} s: try again")


def _row(head: PartitionOverview) -> dict[str, object]:
    return {
        "partition": head.partition,
        "halted_because": head.halted_because,
        "halted_record": head.halted_record,
        "halted_apps": head.halted_apps,
        "trying": head.trying,
    }
