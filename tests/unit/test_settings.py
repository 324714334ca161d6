"""Settings that follow from others."""

import pytest
from pydantic import ValidationError

from ledger.settings import Settings


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BROKERS", "REPLICATION_FACTOR", "MIN_INSYNC_REPLICAS"):
        monkeypatch.delenv(f"LEDGER_{name}", raising=False)


@pytest.mark.parametrize(
    ("given", "copies"),
    [
        ({}, (1, 1)),
        ({"BROKERS": "2"}, (2, 1)),
        ({"BROKERS": "3"}, (3, 2)),
        ({"BROKERS": "5"}, (3, 2)),
        ({"REPLICATION_FACTOR": "3"}, (3, 2)),
        ({"BROKERS": "3", "REPLICATION_FACTOR": "1"}, (1, 1)),
        ({"BROKERS": "3", "MIN_INSYNC_REPLICAS": "1"}, (3, 1)),
        ({"BROKERS": "3", "MIN_INSYNC_REPLICAS": "3"}, (3, 3)),
    ],
)
def test_copies_follow_the_number_of_brokers(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], copies: tuple[int, int]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"LEDGER_{name}", value)
    settings = Settings()
    assert (settings.replication_factor, settings.min_insync_replicas) == copies


def test_no_brokers_are_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_BROKERS", "0")
    with pytest.raises(ValidationError):
        Settings()
