"""The sequence guard: what goes on, what repeats itself, what breaks."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumers.subscriber import EventChain, GapError, OtherHistoryError, RecordedEvent
from consumers.subscriber import sequence_guard as guard_module
from consumers.subscriber.sequence_guard import BEGINNING, Checkpoint, SequenceGuard, Verdict


def made(count: int, owner: str = "ada") -> list[RecordedEvent]:
    chain = EventChain(1)
    return [chain.posted(owner, "CREDIT_ADD", 1) for _ in range(count)]


HISTORY = made(60)
OTHER_HISTORY = made(60, owner="eve")


def fed(guard: SequenceGuard, events: list[RecordedEvent]) -> list[int]:
    new = []
    for event in events:
        if guard.judge(event) is Verdict.NEW:
            guard.advance(event)
            new.append(event.sequence)
    return new


@st.composite
def published(draw: st.DrawFn) -> list[RecordedEvent]:
    """As the ledger publishes: in order, and after a takeover again from some earlier event on, at most to the last."""
    stream: list[RecordedEvent] = []
    last = 0
    for _ in range(draw(st.integers(1, 6))):
        begin = draw(st.integers(0, last))
        end = draw(st.integers(begin, len(HISTORY)))
        stream += HISTORY[begin:end]
        last = max(last, end)
    return stream


@given(published(), st.integers(1, 5))
def test_however_often_events_are_given_again_each_is_new_once_and_in_order(
    stream: list[RecordedEvent], kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard_module, "RECENT_HASHES_MAX", kept)
        new = fed(SequenceGuard(0, BEGINNING), stream)
    assert new == list(range(1, max((event.sequence for event in stream), default=0) + 1))


@given(published(), st.data())
def test_a_restart_anywhere_changes_nothing(stream: list[RecordedEvent], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(stream)))
    guard = SequenceGuard(0, BEGINNING)
    new = fed(guard, stream[:cut])
    assert guard.last is not None
    restarted = SequenceGuard(0, Checkpoint.parse(guard.last.as_text))
    if cut:
        assert restarted.recall(stream[cut - 1])
    assert new + fed(restarted, stream[cut:]) == fed(SequenceGuard(0, BEGINNING), stream)


@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 20), st.integers(1, 50))
def test_another_history_is_found_out_at_the_latest_where_it_reaches_the_last_event(
    seen: int, begin: int, length: int, kept: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard_module, "RECENT_HASHES_MAX", kept)
        guard = SequenceGuard(0, BEGINNING)
        fed(guard, HISTORY[:seen])
        begin = min(begin, seen)
        with pytest.raises(OtherHistoryError, match="Ask its operator"):
            fed(guard, OTHER_HISTORY[begin : seen + length])


def test_a_gap_is_named_with_its_size() -> None:
    guard = SequenceGuard(0, BEGINNING)
    fed(guard, HISTORY[:3])
    with pytest.raises(GapError, match="after sequence 3 comes event 0:6: 2 events are missing"):
        guard.judge(HISTORY[5])


def test_a_history_that_does_not_begin_at_its_beginning_is_a_gap() -> None:
    with pytest.raises(GapError):
        SequenceGuard(0, BEGINNING).judge(HISTORY[1])


def test_an_event_that_was_judged_but_not_disposed_of_is_new_again() -> None:
    guard = SequenceGuard(0, BEGINNING)
    assert guard.judge(HISTORY[0]) is Verdict.NEW
    assert guard.judge(HISTORY[0]) is Verdict.NEW


def test_a_known_position_with_another_hash_is_refused() -> None:
    guard = SequenceGuard(0, BEGINNING)
    fed(guard, HISTORY[:5])
    with pytest.raises(OtherHistoryError, match="event 0:2 was seen with the hash"):
        guard.judge(msgspec.structs.replace(HISTORY[1], hash="00" * 32))


def test_a_repetition_from_further_back_than_hashes_are_kept_must_follow_its_own_chain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard_module, "RECENT_HASHES_MAX", 2)
    guard = SequenceGuard(0, BEGINNING)
    fed(guard, HISTORY[:20])
    assert fed(guard, HISTORY[3:6]) == []
    with pytest.raises(OtherHistoryError, match="given again but does not follow"):
        guard.judge(msgspec.structs.replace(HISTORY[6], prev_hash="00" * 32))


def test_another_event_before_the_place_than_the_one_that_was_seen_is_refused() -> None:
    guard = SequenceGuard(0, Checkpoint(5, HISTORY[4].hash))
    with pytest.raises(OtherHistoryError, match="event 0:5 was seen with the hash"):
        guard.recall(OTHER_HISTORY[4])


def test_an_event_of_another_partition_is_refused() -> None:
    with pytest.raises(OtherHistoryError, match="find out who else writes"):
        SequenceGuard(1, BEGINNING).judge(HISTORY[0])


def test_with_nothing_known_the_record_before_the_place_says_what_was_seen() -> None:
    guard = SequenceGuard(0, None)
    assert guard.recall(HISTORY[6])
    assert fed(guard, HISTORY[5:10]) == [8, 9, 10]


def test_a_newer_record_before_the_place_shows_that_the_topic_was_written_again() -> None:
    guard = SequenceGuard(0, Checkpoint(5, HISTORY[4].hash))
    assert not guard.recall(HISTORY[9])
    assert fed(guard, HISTORY) == list(range(6, 61))


@pytest.mark.parametrize("text", ["", "5", "x:y", "5:abc", "٥:" + "0" * 64, "-1:" + "0" * 64])
def test_metadata_of_other_tools_is_no_checkpoint(text: str) -> None:
    assert Checkpoint.parse(text) is None
