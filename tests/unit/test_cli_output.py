"""What the command line prints: nothing that anybody put into an id can command a terminal."""

import io
import json
from datetime import UTC, datetime
from uuid import UUID

import pytest
from rich.console import Console

from service.cli.output import CliError, ExitCode, Output, plain, printable, table


def shown(made: object) -> str:
    console = Console(file=io.StringIO(), width=100, markup=False)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ["[red]x", "[/x]", "\x1b[31mred", "bell\x07", "\u202eright to left", "\r"])
def test_ids_are_shown_and_never_obeyed(text: str) -> None:
    found = shown(table((text, "n"), [(text, 1)], title=text))
    assert not any(character in found for character in "\x1b\x07\u202e\r")
    assert text.startswith("[") is (text in found)


def test_numbers_are_flush_right_and_nothing_is_a_dash() -> None:
    found = shown(table(("number", "nothing", "yes"), [(1_234_567, None, True)]))
    assert "1,234,567" in found
    assert "-" in found
    assert "yes" in found


def test_json_knows_ids_times_and_sets() -> None:
    document = {"id": UUID(int=1), "at": datetime(2026, 1, 2, tzinfo=UTC), "set": {2, 1}}
    assert json.loads(json.dumps(document, default=plain)) == {
        "id": "00000000-0000-0000-0000-000000000001",
        "at": "2026-01-02T00:00:00Z",
        "set": [1, 2],
    }


def test_an_error_says_what_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    error = CliError(ExitCode.UNAVAILABLE, "Kafka is away", "start it")
    Output(as_json=True).error(error)
    assert json.loads(capsys.readouterr().err) == {"error": "Kafka is away", "to_do": "start it", "exit_code": 3}
    Output(as_json=False).error(error)
    assert capsys.readouterr().err.splitlines() == ["error: Kafka is away", "to do: start it"]


def test_what_can_be_printed_stays_as_it_is() -> None:
    assert printable("Žižka 漢字\n") == "Žižka 漢字\n"
