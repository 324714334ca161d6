"""A feed: one version of a read model being fed one partition; and how events follow its checkpoint. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position


class FeedKey(NamedTuple):
    """Names a feed, and orders feeds as locks are taken."""

    read_model: str
    version: int
    partition: int


@dataclass(slots=True)
class Feed:
    """A feed that this process holds: its committed checkpoint.

    `next_offset` is where reading `ledger.events` goes on; None when that is not known and the record has to be read
    first. `recent` are the events of the last batch: the ones that come a second time most often.
    """

    key: FeedKey
    epoch: int
    sequence: int
    hash: str
    next_offset: int | None
    halted_because: str | None = None
    recent: Sequence[RecordedEvent] = field(default=(), repr=False)


class Followed(NamedTuple):
    """How some events follow a checkpoint."""

    new: list[RecordedEvent]
    """In order, each following the one before it."""
    seen: list[RecordedEvent]
    """Not behind the checkpoint: to be dropped, if they are the same as before."""
    gap_before: int | None = None
    """The sequence in front of which events are missing; what came after it was not looked at."""
    conflict: str | None = None
    """Why the event at `looked_at` cannot follow; it and what came after it was left alone."""
    looked_at: int = 0
    """How many events were looked at before a conflict."""


def follow(sequence: int, last_hash: str, events: Sequence[RecordedEvent]) -> Followed:
    """Sort the events of one partition, as they arrived, into new ones and ones that were seen before."""
    new: list[RecordedEvent] = []
    seen: list[RecordedEvent] = []
    for index, event in enumerate(events):
        if event.sequence == sequence + 1:
            if event.prev_hash != last_hash:
                conflict = other_history(event, f"it follows {event.prev_hash}", last_hash)
                return Followed(new, seen, None, conflict, index)
            new.append(event)
            sequence, last_hash = event.sequence, event.hash
        elif event.sequence <= sequence:
            seen.append(event)
        else:
            return Followed(new, seen, event.sequence)
    return Followed(new, seen)


def remembered_hash(feed: Feed, new: Sequence[RecordedEvent], sequence: int) -> str | None:
    """The hash of an event of this batch or of the one before, or None when it lies further back."""
    for run in (new, feed.recent):
        if run and 0 <= sequence - run[0].sequence < len(run):
            return run[sequence - run[0].sequence].hash
    return None


def seen_otherwise(feed: Feed, followed: Followed, recorded: Mapping[int, str]) -> tuple[RecordedEvent, str] | None:
    """The first event that comes again but is not the one that was projected, with why; None when all are the same.

    Compared with what this process remembers and else with the record (`recorded`: hashes by sequence); old events
    that were archived can be compared with neither.
    """
    for event in followed.seen:
        known = remembered_hash(feed, followed.new, event.sequence) or recorded.get(event.sequence)
        if known is not None and known != event.hash:
            return event, other_history(event, f"its hash is {event.hash}", known)
    return None


def what_to_do(read_model: str) -> str:
    """What an operator does about a read model that met another history."""
    return (
        "The ledger was probably restored from an older copy, or ledger.events belongs to another ledger. "
        f"Run `ledger verify`; when the record is right, run `ledger rebuild {read_model} --after-restore`, "
        "which makes the read model from the record and starts this partition again."
    )


def unrecorded(partition: int, sequence: int, head_sequence: int) -> str:
    """Says that an event was published which the record does not hold."""
    if sequence <= head_sequence:
        return f"the record holds another event at {partition}:{sequence} than ledger.events carries"
    return (
        f"ledger.events carries {partition}:{sequence}, but the record ends at {partition}:{head_sequence} and lacks "
        f"what follows"
    )


def other_history(event: RecordedEvent, what: str, expected: str) -> str:
    """Says that an event is not the one that was expected."""
    position = Position(event.partition, event.sequence)
    return f"event {position} in ledger.events is not the one expected: {what}, expected {expected}."
