"""The place of an event, as text and as the number that people see."""

import pytest

from ledger.domain.position import Position


@pytest.mark.parametrize(
    ("position", "text", "entry_id"),
    [
        (Position(0, 1), "0:1", 1),
        (Position(3, 17), "3:17", 3 * 2**40 + 17),
        (Position(4095, 2**40 - 1), "4095:1099511627775", 4095 * 2**40 + 2**40 - 1),
    ],
)
def test_a_position_is_written_and_read(position: Position, text: str, entry_id: int) -> None:
    assert (str(position), position.entry_id) == (text, entry_id)
    assert Position.parse(text) == Position.of_entry_id(entry_id) == position


@pytest.mark.parametrize(
    "text",
    ["", ":", "1", "1:", ":1", "a:1", "1:a", "-1:1", "1:-1", "1:2:3", " 1:2", "1:2 ", "1.0:2", "١:٢", "1:²", "+1:2"],
)
def test_what_is_no_position_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="expected PARTITION:SEQUENCE, for example 3:17"):
        Position.parse(text)
