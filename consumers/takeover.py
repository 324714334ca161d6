"""What a new holder checks before it reads: that the logs in Kafka are the ones that the record was made from."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Final

from consumers.held_partition import HeldPartition, mark_of
from consumers.known_heads import TO_DO, missing
from ledger.broker.protocol import Bounds, OffsetOutOfRangeError, Record, RecordReader, TopicPartition
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.protocol import EventStore
from ledger.messages.event_codec import UnreadableEventError, decode_event
from ledger.messages.topics import Topics

TAIL_READ_LIMIT_S: Final = 4.0
"""How long the last published events are read for before the claim is tried again."""

TAIL_RECORDS_MAX: Final = 500


_RECREATED: Final = (
    "if this is the right cluster and the old log is gone for good, begin with the new one: `ledger recover topic "
    "{app}` (docs/operating.md, 'A topic that was recreated')"
)


class TailTimeoutError(Exception):
    """None of the last published events arrived in time: back off and ask again."""


def begin_reading(held: HeldPartition, app: str, bounds: Bounds) -> str | None:
    """Prepare where an app's commands are read on; what contradicts the record, or None: nothing of that app is read.

    The last consumed record is read again and compared by the loop (`verify_first`), because a recreated or truncated
    topic need not be out of range.
    """
    held.begun.add(app)
    mark = held.marks.get(app)
    consumed = 0 if mark is None else mark.next_offset
    if bounds.start > consumed:
        return (
            f"the topic of {app} begins at offset {bounds.start}, but only {consumed} records of it are consumed: "
            f"retention has removed {bounds.start - consumed} that nobody decided; raise the topic's retention, then "
            f"go on where it begins: `ledger recover offsets {app}` (docs/operating.md, 'Offsets out of range')"
        )
    if mark is None:
        held.first_offsets[app] = bounds.start
        return None
    if bounds.end < mark.next_offset:
        return (
            f"the topic of {app} ends at offset {bounds.end}, but {mark.next_offset} records of it are consumed: it "
            f"was truncated or recreated; {_RECREATED.format(app=app)}"
        )
    if bounds.start <= mark.last_offset:
        held.unverified[app] = mark
    # Otherwise retention has removed the last consumed record, and there is nothing to compare.
    return None


def verify_first(held: HeldPartition, app: str, record: Record) -> str | None:
    """Compare the first record read with the last one consumed; what differs, or None. The record is not consumed
    again."""
    expected = held.unverified.pop(app)
    if mark_of(record) == expected:
        return None
    return (
        f"the record at {record.topic}:{record.partition}:{record.offset} is not the one that was consumed at offset "
        f"{expected.last_offset}: the topic was recreated or is another cluster's; {_RECREATED.format(app=app)}"
    )


async def check_published(
    reader: RecordReader, store: EventStore, topics: Topics, heads: Mapping[int, int]
) -> dict[int, str | None]:
    """Compare the last published event of each partition (with the sequence of its head) with the record.

    A record that was restored from an older copy lacks events that apps have seen; it must not go on and give the same
    sequences to other events.

    A partition whose end cannot be read now (it has no leader) is left out, and the others go on without it.

    Returns:
        What contradicts the record, or None, by partition.

    Raises:
        TailTimeoutError, BrokerUnavailableError, StoreUnavailableError.
    """
    last, reached = await _last_published(reader, [TopicPartition(topics.events, partition) for partition in heads])
    found: dict[int, str | None] = dict.fromkeys(sorted(reached))
    to_compare: dict[Position, str] = {}
    for partition, event in last.items():
        if isinstance(event, str):
            found[partition] = event
        elif event.partition != partition:
            found[partition] = f"{topics.events} holds an event of partition {event.partition} on partition {partition}"
        elif event.sequence > heads[partition]:
            found[partition] = (
                f"{topics.events} holds {event.position}, but the record ends at {partition}:{heads[partition]}, so "
                f"{missing(partition, heads[partition], event.sequence)}: {TO_DO}"
            )
        else:
            to_compare[event.position] = event.hash
    recorded = await store.read_events_at(list(to_compare)) if to_compare else {}
    for position, published_hash in to_compare.items():
        event_recorded = recorded.get(position)
        if event_recorded is not None and event_recorded.hash != published_hash:
            found[position.partition] = (
                f"{topics.events} holds {position} with another hash than the record, which has another history: "
                f"{TO_DO}"
            )
    return found


async def _last_published(
    reader: RecordReader, partitions: Collection[TopicPartition]
) -> tuple[dict[int, RecordedEvent | str], set[int]]:
    """The last event of each partition that has one, and the partitions whose end was reached."""
    bounds = await reader.reachable_bounds(partitions)
    waiting = {topic_partition: bound.end for topic_partition, bound in bounds.items() if bound.end > bound.start}
    reader.assign({topic_partition: end - 1 for topic_partition, end in waiting.items()})
    last: dict[int, RecordedEvent | str] = {}
    deadline = asyncio.get_running_loop().time() + TAIL_READ_LIMIT_S
    while waiting:
        try:
            records = await reader.poll(TAIL_RECORDS_MAX, 0.2)
        except OffsetOutOfRangeError as error:  # retention took the record since its offset was asked for
            raise TailTimeoutError(f"the end of the log moved while it was read: {error}") from error
        for record in records:
            last[record.partition] = _read(record)
            if record.offset >= waiting.get(TopicPartition(record.topic, record.partition), 0) - 1:
                waiting.pop(TopicPartition(record.topic, record.partition), None)
        for topic_partition in [tp for tp in waiting if reader.caught_up(tp)]:
            del waiting[topic_partition]
        if waiting and asyncio.get_running_loop().time() > deadline:
            if len(waiting) == len(bounds):
                raise TailTimeoutError(f"the ends of {', '.join(map(str, waiting))} did not arrive")
            break
    reader.assign({})
    reached = {tp.partition for tp in bounds if tp not in waiting}
    return {partition: event for partition, event in last.items() if partition in reached}, reached


def _read(record: Record) -> RecordedEvent | str:
    try:
        return decode_event(record.value)
    except UnreadableEventError as error:
        return f"{record.topic}:{record.partition}:{record.offset} is not an event of this ledger: {error}"
