"""The hash of an event: pinned, because it has to verify for ever, and different whenever a field differs."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from ledger.domain.chain import GENESIS, event_hash, metadata_digest, microseconds

EVENT: dict[str, Any] = {
    "partition": 3,
    "sequence": 17,
    "app": "shop",
    "command_id": UUID("0190a6e0-0000-7000-8000-000000000001"),
    "operation": "CREDIT_ADD",
    "owner_id": "owner \U0001f600",
    "credit_type": "credits",
    "account_version": 4,
    "amount": -5,
    "balance_after": 95,
    "nonce": "order-1001",
    "issued_at": datetime(2026, 1, 31, 12, 0, 0, 1, tzinfo=UTC),
    "occurred_at": datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC),
    "reason": None,
    "detail": None,
    "metadata_digest": None,
    "command_offset": 12,
}
OTHER: dict[str, Any] = {
    "partition": 4,
    "sequence": 18,
    "app": "shop2",
    "command_id": UUID("0190a6e0-0000-7000-8000-000000000002"),
    "operation": "CREDIT_SPEND",
    "owner_id": "owner",
    "credit_type": "points",
    "account_version": 5,
    "amount": 5,
    "balance_after": 96,
    "nonce": "order-1002",
    "issued_at": datetime(2026, 1, 31, 12, 0, 0, 2, tzinfo=UTC),
    "occurred_at": datetime(2026, 1, 31, 12, 0, 1, 1, tzinfo=UTC),
    "reason": "EXPIRED",
    "detail": "because",
    "metadata_digest": metadata_digest("{}"),
    "command_offset": 13,
}
PINNED = "6c53d165731af92fe4b112d4478f56176494c83915070673510ddb3d6d4e1bea"
PINNED_REJECTION = "e12fbdb0d5b10046f88ddcdb1ada207f86634e19d7a991e9e5428779d30712f2"
PINNED_METADATA = "10a7ff3e312baec0c356be489739b93f63af84416c40f1c13023eb96c7ed50aa"


def test_the_format_is_pinned() -> None:
    """Changing it makes every record that exists unverifiable: a new format needs a new version number."""
    assert event_hash(GENESIS, **EVENT).hex() == PINNED
    assert event_hash(GENESIS, **OTHER).hex() == PINNED_REJECTION
    assert metadata_digest('{"a":1}').hex() == PINNED_METADATA


@pytest.mark.parametrize("name", list(EVENT))
def test_the_hash_changes_with_every_field(name: str) -> None:
    assert event_hash(GENESIS, **{**EVENT, name: OTHER[name]}) != event_hash(GENESIS, **EVENT)


def test_the_hash_changes_with_the_one_before() -> None:
    assert event_hash(b"\1" * 32, **EVENT) != event_hash(GENESIS, **EVENT)


def test_what_moves_from_one_field_to_the_next_changes_the_hash() -> None:
    first = {**EVENT, "app": "ab", "operation": "C", "reason": "R", "detail": "D"}
    for moved in (
        {"reason": "RD", "detail": ""},
        {"reason": "", "detail": "RD"},
        {"amount": 5, "balance_after": 95, "account_version": 4},
        {"amount": -59, "balance_after": 5},
    ):
        assert event_hash(GENESIS, **{**first, **moved}) != event_hash(GENESIS, **first)


def test_the_hash_is_of_the_instant_whatever_its_zone() -> None:
    elsewhere = EVENT["issued_at"].astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert event_hash(GENESIS, **{**EVENT, "issued_at": elsewhere}) == event_hash(GENESIS, **EVENT)


def test_metadata_is_digested_as_it_was_sent() -> None:
    assert metadata_digest('{"a": "é"}') == metadata_digest('{"a": "é"}'.encode())
    assert metadata_digest('{"a":1}') != metadata_digest('{"a": 1}')


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
        (datetime(1, 1, 1, tzinfo=UTC), -62_135_596_800_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), 253_402_300_799_999_999),
    ],
)
def test_times_are_whole_microseconds(time: datetime, expected: int) -> None:
    assert microseconds(time) == expected
