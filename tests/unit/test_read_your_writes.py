"""Which events a read must contain, and what happens when the read model has not got there."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from ledger.domain.position import Position
from projections import read_your_writes
from projections.read_your_writes import AnsweredPositions, StaleReadError, read_at_least
from tests.simulation import virtual_time


@dataclass
class Answer:
    position: Position


def reading(sequences: Sequence[int], required: int, limit_s: float = 1.0) -> tuple[Answer, int]:
    """Read a model that is at these sequences one read after another; the answer, and how many reads it took."""
    reads = 0

    async def read() -> Answer:
        nonlocal reads
        reads += 1
        return Answer(Position(3, sequences[min(reads, len(sequences)) - 1]))

    async def run() -> Answer:
        return await read_at_least(read, required, limit_s)

    return virtual_time.run(run()), reads


def test_a_read_that_is_far_enough_is_answered_at_once() -> None:
    assert reading([5], 5) == (Answer(Position(3, 5)), 1)


def test_a_read_waits_until_the_model_has_got_there() -> None:
    assert reading([3, 4, 4, 7], 5) == (Answer(Position(3, 7)), 4)


def test_a_read_that_does_not_get_there_is_refused_and_says_how_far_it_got() -> None:
    with pytest.raises(StaleReadError, match="3:4 and did not reach 3:5 within 2 s") as stale:
        reading([4], 5, limit_s=2.0)
    assert (stale.value.required, stale.value.reached) == (Position(3, 5), Position(3, 4))


def test_a_read_takes_no_longer_than_its_limit() -> None:
    async def run() -> float:
        async def read() -> Answer:
            return Answer(Position(0, 0))

        with pytest.raises(StaleReadError):
            await read_at_least(read, 1, 2.0)
        return asyncio.get_running_loop().time()

    assert virtual_time.run(run()) == pytest.approx(2.0)


def test_what_a_service_has_answered_is_required_of_its_later_reads() -> None:
    answered = AnsweredPositions()
    assert answered.required(3, "ada") == 0
    answered.note_position(Position(3, 7), "ada")
    answered.note_position(Position(3, 5), "ada")  # an older answer that comes later
    assert answered.required(3, "ada") == 7
    assert answered.required(3, "bob") == 0, "another owner's write"
    assert answered.required(2, "ada") == 0, "another partition"


def test_what_the_caller_names_is_required_if_it_is_of_the_owners_partition() -> None:
    answered = AnsweredPositions()
    answered.note_position(Position(3, 7), "ada")
    assert answered.required(3, "ada", [Position(3, 9), Position(2, 99)]) == 9
    assert answered.required(3, "ada", [Position(3, 2)]) == 7


def test_an_answer_without_an_owner_may_be_anybodys() -> None:
    answered = AnsweredPositions()
    answered.note_position(Position(3, 7))
    answered.note_position(Position(3, 6))
    assert [answered.required(3, owner) for owner in ("ada", "bob")] == [7, 7]
    assert answered.required(2, "ada") == 0


def test_of_an_owner_who_is_no_longer_remembered_every_answer_of_the_partition_may_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(read_your_writes, "OWNERS_REMEMBERED_MAX", 2)
    answered = AnsweredPositions()
    for sequence, owner in enumerate(("ada", "bob", "eve"), 1):
        answered.note_position(Position(3, sequence), owner)
    assert answered.required(3, "ada") == 1
    assert answered.required(3, "stranger") == 1
    assert answered.required(3, "eve") == 3
