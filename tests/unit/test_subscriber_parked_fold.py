"""The fold of the parked topic."""

from datetime import UTC, datetime

import pytest

from consumers.subscriber import EventChain
from consumers.subscriber.errors import UnreadableParkingRecordError
from consumers.subscriber.parking import (
    Discard,
    Failed,
    Handled,
    Parked,
    ParkedPartition,
    ParkingRecord,
    Retry,
    decode_parking_record,
    encode_parking_record,
)

AT = datetime(2026, 1, 2, tzinfo=UTC)
CHAIN = EventChain(1)
EVENTS = [CHAIN.posted("ada", "CREDIT_ADD", 1, metadata={"n": n}) for n in range(4)]


def parked(index: int, group: str = "g") -> Parked:
    return Parked(group, "ada", AT, EVENTS[index], "boom" if index == 0 else None, 3 if index == 0 else 0)


def folded(*records: ParkingRecord) -> ParkedPartition:
    fold = ParkedPartition("g")
    for record in records:
        fold.apply(record)
    return fold


@pytest.mark.parametrize(
    "record",
    [
        parked(0),
        Retry("g", "ada", AT, 3),
        Discard("g", "ada", AT, 1),
        Handled("g", "ada", AT, 1),
        Failed("g", "ada", AT, 1, "boom", 3),
    ],
)
def test_every_kind_is_read_as_it_was_written_and_twice_is_as_once(record: ParkingRecord) -> None:
    assert decode_parking_record(encode_parking_record(record)) == record
    before = (parked(0), parked(1))
    once, twice = folded(*before, record), folded(*before, record, record)
    assert list(once.owners) == list(twice.owners)


@pytest.mark.parametrize("value", [None, b"", b"x", b"{}", b'{"kind": "retry"}', b'{"kind": 1}', b"[]"])
def test_what_is_no_record_is_refused(value: bytes | None) -> None:
    with pytest.raises(UnreadableParkingRecordError):
        decode_parking_record(value)


def test_a_kind_and_a_field_of_a_newer_version_are_passed_over() -> None:
    assert decode_parking_record(b'{"kind": "frozen", "group": "g"}') is None
    value = encode_parking_record(Retry("g", "ada", AT, 3))
    assert decode_parking_record(value[:-1] + b', "who": "op"}') == Retry("g", "ada", AT, 3)


def test_an_owner_is_parked_until_the_last_event_is_handled() -> None:
    fold = folded(parked(0), parked(1))
    assert fold.is_parked("ada")
    fold.apply(Handled("g", "ada", AT, 1))
    assert fold.is_parked("ada")
    fold.apply(Handled("g", "ada", AT, 2))
    assert not fold.is_parked("ada")


def test_an_event_that_was_handled_after_parking_stays_known() -> None:
    fold = folded(parked(0), Handled("g", "ada", AT, 1), parked(0))
    assert not fold.is_parked("ada")
    assert fold.knows(1)


def test_a_release_asked_for_before_the_owner_was_parked_again_does_not_count() -> None:
    stale = Retry("g", "ada", AT, 1)
    assert folded(parked(0), Handled("g", "ada", AT, 1), stale, parked(1)).releasable() is None
    assert folded(parked(0), Handled("g", "ada", AT, 1), parked(1), stale).releasable() is None


def test_events_parked_during_a_release_belong_to_it() -> None:
    fold = folded(parked(0), Retry("g", "ada", AT, 1), parked(1), Handled("g", "ada", AT, 1))
    owner = fold.releasable()
    assert owner is not None
    assert owner.first.event.sequence == 2


def test_a_failed_release_ends_and_says_why() -> None:
    fold = folded(parked(0), parked(1), Retry("g", "ada", AT, 2), Failed("g", "ada", AT, 1, "again", 5))
    assert fold.releasable() is None
    (owner,) = fold.owners
    assert (owner.error, owner.attempts) == ("again", 5)


def test_discarding_drops_the_first_events_and_releases_the_others() -> None:
    fold = folded(parked(0), parked(1), parked(2), Discard("g", "ada", AT, 2))
    owner = fold.releasable()
    assert owner is not None
    assert list(owner.events) == [3]


def test_records_of_another_group_change_nothing() -> None:
    fold = folded(parked(0), Discard("h", "ada", AT, 9), Handled("h", "ada", AT, 1), parked(1, group="h"))
    (owner,) = fold.owners
    assert list(owner.events) == [1]
