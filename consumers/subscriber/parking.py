"""What lies on `ledger.parked.<app>`, and what follows from it: which owners are parked, with which events.

The topic is a log of records of five kinds. A subscriber writes `parked`, `handled` and `failed`; whoever releases an
owner writes `retry` or `discard`. Several groups of an app share the topic; each reads its own records.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import msgspec

from consumers.subscriber.errors import UnreadableParkingRecordError
from ledger.domain.event import RecordedEvent


class _Record(msgspec.Struct, frozen=True, tag_field="kind", tag=str.lower, omit_defaults=True):
    group: str
    owner_id: str
    at: datetime


class Parked(_Record, frozen=True):
    """An event that waits: the one whose handler failed (`error`, after `attempts`), or a later one of its owner."""

    event: RecordedEvent
    error: str | None = None
    attempts: int = 0


class Retry(_Record, frozen=True):
    """Handle the owner's parked events, in order. `through` is the last sequence that was parked when it was asked
    for, so that it does not release an owner who is parked again later."""

    through: int


class Discard(_Record, frozen=True):
    """Never handle the owner's parked events up to `through`; handle the others as for `retry`."""

    through: int


class Handled(_Record, frozen=True):
    """A parked event was handled."""

    sequence: int


class Failed(_Record, frozen=True):
    """A parked event failed again: the owner stays parked until the next release."""

    sequence: int
    error: str
    attempts: int


ParkingRecord = Parked | Retry | Discard | Handled | Failed

_KINDS: Final = frozenset({"parked", "retry", "discard", "handled", "failed"})
_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[ParkingRecord]] = msgspec.json.Decoder(ParkingRecord)
_kind_decoder: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def encode_parking_record(record: ParkingRecord) -> bytes:
    """The value of the message; its key is the owner_id, its partition the event's."""
    return _encoder.encode(record)


def decode_parking_record(value: bytes | None) -> ParkingRecord | None:
    """Read the value of a message; None for a kind that a newer version of the kit writes.

    Raises:
        UnreadableParkingRecordError: it is no record of the kit.
    """
    try:
        return _decoder.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if _is_of_unknown_kind(value or b""):
            return None
        raise UnreadableParkingRecordError(f"not a record of the parked topic: {error}") from error


def _is_of_unknown_kind(value: bytes) -> bool:
    try:
        kind = msgspec.json.decode(_kind_decoder.decode(value)["kind"], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        return False
    return kind not in _KINDS


class ParkingLog(Protocol):
    """Appends to the parked topic."""

    async def append(self, partition: int, record: ParkingRecord) -> int:
        """Append and return the offset once all in-sync replicas have it. Raises ParkingUnavailableError."""


@dataclass(slots=True)
class ParkedOwner:
    """An owner whose events wait. `releasing`: somebody has asked for them to be handled."""

    owner_id: str
    events: dict[int, Parked] = field(default_factory=dict)
    releasing: bool = False
    error: str | None = None
    attempts: int = 0

    @property
    def first(self) -> Parked:
        """The event to be handled before all others of this owner."""
        return self.events[min(self.events)]

    @property
    def last_sequence(self) -> int:
        """The newest parked event's sequence."""
        return max(self.events)


class ParkedPartition:
    """The parked owners of one partition, for one group: the fold of its log.

    Folding a record twice changes nothing. A subscriber applies what it writes at once and markers when it reads them,
    so it can see a marker later than the log has it; a rebuilt fold then differs at most in `releasing`, and the
    release that follows writes its outcome into the log.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._owners: dict[str, ParkedOwner] = {}
        self._known: set[int] = set()
        """Sequences that are parked or were: an event that was parked and then handled may still lie after the
        committed offset, and must not be handled again when it is read from there."""

    @property
    def owners(self) -> Iterator[ParkedOwner]:
        """The parked owners."""
        return iter(tuple(self._owners.values()))

    def is_parked(self, owner_id: str) -> bool:
        """Whether events of this owner wait."""
        return owner_id in self._owners

    def knows(self, sequence: int) -> bool:
        """Whether this event is parked, or was."""
        return sequence in self._known

    def releasable(self) -> ParkedOwner | None:
        """An owner whose events are to be handled now."""
        return next((owner for owner in self._owners.values() if owner.releasing), None)

    def apply(self, record: ParkingRecord) -> None:
        """Take in one record of the log."""
        if record.group != self._group:
            return
        match record:
            case Parked():
                self._park(record)
            case Handled():
                self._settle(record.owner_id, record.sequence)
            case Retry():
                self._release(record.owner_id, record.through)
            case Discard():
                owner = self._owners.get(record.owner_id)
                if owner is not None:
                    seen = owner.last_sequence
                    for sequence in [sequence for sequence in owner.events if sequence <= record.through]:
                        self._settle(record.owner_id, sequence)
                    self._release(record.owner_id, seen)
            case Failed():
                owner = self._owners.get(record.owner_id)
                if owner is not None and record.sequence in owner.events:
                    owner.releasing = False
                    owner.error, owner.attempts = record.error, record.attempts

    def _park(self, record: Parked) -> None:
        if record.event.sequence in self._known:
            return
        self._known.add(record.event.sequence)
        owner = self._owners.setdefault(record.owner_id, ParkedOwner(record.owner_id))
        if not owner.events:
            owner.error, owner.attempts = record.error, record.attempts
        owner.events[record.event.sequence] = record

    def _settle(self, owner_id: str, sequence: int) -> None:
        self._known.add(sequence)
        owner = self._owners.get(owner_id)
        if owner is not None:
            owner.events.pop(sequence, None)
            if not owner.events:
                del self._owners[owner_id]

    def _release(self, owner_id: str, through: int) -> None:
        owner = self._owners.get(owner_id)
        if owner is not None and owner.first.event.sequence <= through:
            owner.releasing = True
