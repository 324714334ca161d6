"""`ledger keys`: what is refused before anything is asked."""

import pytest
from typer.testing import CliRunner

from ledger.api_keys.secret import new_key
from service.cli.app import app


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_STACK", "external")
    monkeypatch.setenv("LEDGER_APPS", "apps.example_app.operations:ExampleAppOperations")
    monkeypatch.setenv("LEDGER_DATABASE_URL", "postgresql://nobody:nothing@127.0.0.1:1/none")
    monkeypatch.setenv("LEDGER_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("create", "--app", "nobody", "--scope", "read"), "no app 'nobody' is registered"),
        (("create", "--app", "example-app"), "--scope"),
        (("create", "--app", "example-app", "--scope", "mint"), "'mint' is not one of 'read', 'write'"),
        (("create", "--app", "example-app", "--scope", "read", "--label", "x" * 201), "a label has at most 200"),
        (("create", "--app", "example-app", "--scope", "read", "--expires-in-days", "0"), "--expires-in-days"),
        (("revoke", "abc"), "that is no id of a key"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], text: str) -> None:
    ended = CliRunner().invoke(app, ["keys", *arguments])
    assert (ended.exit_code, text in " ".join(ended.output.split())) == (2, True), ended.output


def test_a_key_given_as_its_id_is_not_repeated() -> None:
    key = new_key()
    ended = CliRunner().invoke(app, ["keys", "revoke", key])
    assert (ended.exit_code, key[15:] in ended.output) == (2, False)


def test_no_key_is_shown_that_was_not_kept() -> None:
    ended = CliRunner().invoke(app, ["keys", "create", "--app", "example-app", "--scope", "read"])
    assert (ended.exit_code, "lgk_" in ended.output) == (3, False)
