"""What this process knows of the ends of partitions, compared with what the record says when it is met again.

A committed event is for ever. So where the record ends before what this process has committed or read, or holds another
event there, it is not the record that it was: a standby that lagged behind was promoted, or an older copy was restored.
What is published shows that too (`takeover.check_published`), but not events that were committed and not published yet.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from consumers.held_partition import HeldPartition
from ledger.domain.position import Position
from ledger.event_store.protocol import Claim, EventStore, Head

TO_DO: Final = (
    "the database was restored from an older copy, a standby that lagged behind was promoted, or it is another "
    "ledger's; put the right database back, or follow docs/operating.md, 'A restored database'"
)


class KnownHead(NamedTuple):
    """An event that this process knows to be recorded: the last one of its partition when it was last looked at."""

    sequence: int
    hash: bytes


class KnownHeads:
    """By partition, as long as the process lives."""

    def __init__(self) -> None:
        self._known: dict[int, KnownHead] = {}

    def note(self, held: HeldPartition) -> None:
        """This is how far the partition was when it was given up."""
        self._known[held.partition] = KnownHead(held.sequence, held.hash)

    async def contradiction(self, store: EventStore, claim: Claim) -> str | None:
        """What a partition that is claimed again lacks of what was known of it; None when it lacks nothing.

        Raises:
            StoreUnavailableError: claim again later.
        """
        known = self._known.get(claim.partition)
        if known is None or known.sequence == 0:
            return None
        if claim.sequence < known.sequence:
            return lost_events(claim.partition, known.sequence, claim.sequence)
        recorded: bytes | None = claim.hash
        if claim.sequence > known.sequence:
            position = Position(claim.partition, known.sequence)
            event = (await store.read_events_at([position])).get(position)
            recorded = None if event is None else bytes.fromhex(event.hash)  # None: archived, nothing to compare
        if recorded is not None and recorded != known.hash:
            return other_event(claim.partition, known.sequence)
        return None


def contradicted(held: Iterable[HeldPartition], heads: Mapping[int, Head]) -> dict[int, str]:
    """What the record says otherwise of partitions that are held, between two batches; by partition.

    Under another epoch somebody else may have written rightly: the fence sees to that, and the next claim compares.
    """
    found: dict[int, str] = {}
    for one in held:
        head = heads.get(one.partition)
        if head is None or head.epoch != one.epoch:
            continue
        if head.sequence < one.sequence:
            found[one.partition] = lost_events(one.partition, one.sequence, head.sequence)
        elif head.sequence > one.sequence:
            found[one.partition] = (
                f"the record holds {one.partition}:{head.sequence}, but its only holder wrote no further than "
                f"{one.partition}:{one.sequence}: something else writes to it; run `ledger verify`"
            )
        elif head.hash != one.hash:
            found[one.partition] = other_event(one.partition, one.sequence)
    return found


def lost_events(partition: int, known: int, recorded: int) -> str:
    """Says which committed events the record lacks."""
    return (
        f"the record ends at {partition}:{recorded}, but {partition}:{known} was committed: "
        f"{missing(partition, recorded, known)}: {TO_DO}"
    )


def other_event(partition: int, sequence: int) -> str:
    """Says that the record holds another event than the one that was committed."""
    return f"the record holds another event at {partition}:{sequence} than the one that was committed: {TO_DO}"


def missing(partition: int, recorded: int, known: int) -> str:
    """The events that are lost, in words."""
    if known == recorded + 1:
        return f"event {partition}:{known} is missing"
    return f"the {known - recorded} events {partition}:{recorded + 1} to {partition}:{known} are missing"
