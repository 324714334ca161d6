"""Recognises, event by event, whether one partition's history goes on, repeats itself or breaks."""

from enum import Enum
from typing import Final, NamedTuple

from consumers.subscriber.errors import GapError, OtherHistoryError
from ledger.domain.chain import GENESIS
from ledger.domain.event import RecordedEvent

RECENT_HASHES_MAX: Final = 1_000
"""Hashes kept per partition, so that a repeated event is compared with what was seen at its position. Events further
back are compared by the chain: a repetition that is not ours cannot reach a hash that we know."""


class Checkpoint(NamedTuple):
    """The last event seen of a partition."""

    sequence: int
    hash: str

    @property
    def as_text(self) -> str:
        """What stands in the metadata of a committed offset."""
        return f"{self.sequence}:{self.hash}"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint | None":
        """The inverse of `as_text`; None for anything else, such as the metadata that other tools leave."""
        sequence, _, digest = text.partition(":")
        if not (sequence.isascii() and sequence.isdigit() and len(digest) == 2 * len(GENESIS)):
            return None
        return cls(int(sequence), digest)


BEGINNING: Final = Checkpoint(0, GENESIS.hex())
"""Before the first event of a partition."""


class Verdict(Enum):
    """What an event is to this subscriber."""

    NEW = "new"
    SEEN = "seen"


class SequenceGuard:
    """Knows the last event of one partition that was disposed of.

    `judge` says what an event is, `advance` is called once a new one was handled, passed over or parked: an event whose
    handling was interrupted is judged new again.
    """

    def __init__(self, partition: int, last: Checkpoint | None) -> None:
        """
        Args:
            partition: Its number.
            last: The last event seen; None when nothing is known, then the first event is believed.
        """
        self._partition = partition
        self._last = last
        self._recent: dict[int, str] = {last.sequence: last.hash} if last is not None else {}
        self._repeated: Checkpoint | None = None
        """The last event of the repetition that is being read, if one is."""

    @property
    def last(self) -> Checkpoint | None:
        """The last event that was disposed of."""
        return self._last

    def recall(self, event: RecordedEvent) -> bool:
        """Look at the record that lies before the one to go on with, and take it as seen if nothing is known.

        Returns:
            False when it is newer than what was seen: then the topic was written again, and the place is another one.

        Raises:
            OtherHistoryError: it is the event that was seen last, with another hash.
        """
        if self._last is None:
            self.advance(event)
            return True
        if event.sequence == self._last.sequence and event.hash != self._last.hash:
            raise OtherHistoryError(_other_event(event, self._last.hash))
        return event.sequence <= self._last.sequence

    def judge(self, event: RecordedEvent) -> Verdict:
        """Whether the event is the next one, or one that was seen.

        Raises:
            GapError: it is neither, as events before it are missing.
            OtherHistoryError: it claims a place where another event was seen, or does not follow from the last.
        """
        if event.partition != self._partition or event.sequence < 1:
            raise OtherHistoryError(
                f"a record on partition {self._partition} says that it is event {event.position}: this topic was not "
                "written by one ledger alone; find out who else writes to it"
            )
        last = self._last
        if last is None or event.sequence == last.sequence + 1:
            if last is not None and event.prev_hash != last.hash:
                raise OtherHistoryError(
                    f"event {event.position} follows {event.prev_hash[:12]}..., but the last event seen has the hash "
                    f"{last.hash[:12]}...: {_WHAT_TO_DO}"
                )
            self._repeated = None
            return Verdict.NEW
        if event.sequence > last.sequence:
            raise GapError(
                f"after sequence {last.sequence} comes event {event.position}: {event.sequence - last.sequence - 1} "
                "events are missing from the topic; have the ledger's operator write the topic again from the table, "
                "then start this subscriber again"
            )
        self._compare(event)
        return Verdict.SEEN

    def advance(self, event: RecordedEvent) -> None:
        """The event was disposed of: the next one is expected from now on."""
        self._last = Checkpoint(event.sequence, event.hash)
        self._recent[event.sequence] = event.hash
        self._recent.pop(event.sequence - RECENT_HASHES_MAX, None)

    def _compare(self, event: RecordedEvent) -> None:
        known = self._recent.get(event.sequence)
        if known is not None and known != event.hash:
            raise OtherHistoryError(_other_event(event, known))
        # Further back than the hashes we keep, an event proves itself by leading up to one that we know.
        before = self._repeated
        if before is not None and event.sequence == before.sequence + 1 and event.prev_hash != before.hash:
            raise OtherHistoryError(
                f"event {event.position} is given again but does not follow from the one before it: {_WHAT_TO_DO}"
            )
        self._repeated = Checkpoint(event.sequence, event.hash)


_WHAT_TO_DO: Final = (
    "the ledger was replaced or restored from an older copy. Ask its operator which history is valid; undo in the app "
    "what the lost events did, then start under a new group name"
)


def _other_event(event: RecordedEvent, known: str) -> str:
    return (
        f"event {event.position} was seen with the hash {known[:12]}... and now has {event.hash[:12]}...: {_WHAT_TO_DO}"
    )
