"""The auditor reads commands as the ledger does, though it shares nothing with it, and sees what is broken."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Any
from uuid import UUID

import pytest

from apps.example_app.operations import ExampleAppOperations
from ledger.domain.account import Account
from ledger.domain.decider import decide
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.messages import command_codec
from ledger.messages.partitioning import partition_of
from ledger.operations import Registry
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.auditor import commands
from tests.auditor.read_models import audit_balances, audit_statements, fold_balances, fold_statements
from tests.auditor.record import RecordAudit, audit_record
from tests.auditor.rows import Quarantined, Row, Sent
from tests.auditor.topics import audit_input, audit_published
from tests.auditor.violation import ViolationError
from tests.contract.hand import Hand

GOOD: dict[str, Any] = {
    "command_id": "0198a3c0-0000-7000-8000-000000000001",
    "operation": "CREDIT_ADD",
    "owner_id": "owner",
    "nonce": "n",
    "issued_at": "2026-01-31T12:00:00Z",
}


def messages() -> list[bytes | None]:
    changes: list[dict[str, Any]] = [
        {},
        {"amount": 5},
        {"amount": "5"},
        {"amount": 5.0},
        {"amount": True},
        {"amount": None},
        {"amount": 2**63 - 1},
        {"amount": 2**63},
        {"command_id": "no"},
        {"command_id": 7},
        {"nonce": ""},
        {"nonce": "x" * 128},
        {"nonce": "x" * 129},
        {"nonce": "a\0b"},
        {"owner_id": "other"},
        {"issued_at": "2026-01-31T12:00:00"},
        {"issued_at": "yesterday"},
        {"not_after": None},
        {"not_after": "2026-01-31T12:00:00+02:00"},
        {"metadata": {}},
        {"metadata": {"a": [1, {"b": None}]}},
        {"metadata": None},
        {"metadata": []},
        {"metadata": {"long": "x" * 5000}},
        {"amonut": 5},
        {"credit_type": "gems"},
        {"credit_type": ""},
    ]
    encoded: list[bytes | None] = [json.dumps({**GOOD, **change}).encode() for change in changes]
    without = [json.dumps({k: v for k, v in GOOD.items() if k != name}).encode() for name in GOOD]
    text = json.dumps(GOOD)
    broken = [b"", b"{", b"null", b"[]", b"\xff", None, text.encode()[:-1] + b"}}"]
    twice = text[:-1] + ', "amount": 5, "amount": 6}'
    twice_inside = text[:-1] + ', "metadata": {"a": 1, "a": 2}}'
    numbers = [text[:-1] + f', "amount": {number}}}' for number in ("NaN", "1e400", "-0", "1e2")]
    return [*encoded, *without, *broken, *(one.encode() for one in (twice, twice_inside, *numbers))]


@pytest.mark.parametrize("value", messages())
def test_what_is_readable_for_the_ledger_is_readable_for_the_auditor(value: bytes | None) -> None:
    partition = partition_of(b"owner", 4)
    decoded = command_codec.decode_command("example-app", b"owner", value, partition, 4)
    found = commands.read(b"owner", value, partition, 4)
    assert (found is None) == isinstance(decoded, command_codec.Unreadable), decoded


def test_both_place_keys_on_the_same_partition() -> None:
    random = Random(1)
    for length in range(60):
        key = random.randbytes(length)
        assert commands.partition_of(key, 12) == partition_of(key, 12)
    value = json.dumps(GOOD).encode()
    wrong = (partition_of(b"owner", 4) + 1) % 4
    assert commands.read(b"owner", value, wrong, 4) is None
    assert commands.read(None, value, partition_of(b"owner", 4), 4) is None


def test_both_decide_alike() -> None:
    random = Random(2)
    rules = Registry((ExampleAppOperations,))["example-app"]
    app = commands.App(commands.EXAMPLE_APP_OPERATIONS)
    now = datetime(2026, 2, 1, tzinfo=UTC)
    partition = partition_of(b"owner", 4)
    for _ in range(2_000):
        body = {**GOOD, "operation": random.choice([*commands.EXAMPLE_APP_OPERATIONS, "FLY"])}
        if random.random() < 0.6:
            body["amount"] = random.choice((0, 1, -1, -5, 10, 3, 2**53 - 1, 2**53, random.randint(-50, 50)))
        if random.random() < 0.2:
            body["not_after"] = random.choice(("2026-01-31T00:00:00Z", "2026-03-01T00:00:00Z"))
        if random.random() < 0.1:
            body["credit_type"] = "gems"
        value = json.dumps(body).encode()
        decoded = command_codec.decode_command("example-app", b"owner", value, partition, 4)
        assert not isinstance(decoded, command_codec.Unreadable)
        read = commands.read(b"owner", value, partition, 4)
        assert read is not None
        balance = random.choice((0, 3, 40, 2**53 - 2))
        event = decide(decoded, Account(balance, 1), rules, now, None)
        (outcome,) = commands.expected(read, app, balance, now, None)
        assert (event.reason, event.amount) == (outcome.reason, outcome.amount), body
        assert outcome.detail in (None, event.detail)


async def rows() -> list[Row]:
    """A small record: entries and a rejection of two owners."""
    record = InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    hand = Hand(InMemoryEventStore(record))
    await hand.claim(0)
    hand.entry(0, 5, owner_id="a")
    hand.entry(0, 7, owner_id="b", metadata='{"x":1}')
    hand.rejection(0, owner_id="a", operation="FLY")
    hand.entry(0, -2, owner_id="a", operation="CREDIT_SPEND")
    await hand.write()
    return [Row.of(dict(zip(EVENT_COLUMNS, row, strict=True))) for row in record.events[0]]


async def test_a_right_record_passes() -> None:
    audit = audit_record(await rows())
    assert audit.balances == {("a", "credits"): (3, 2), ("b", "credits"): (7, 1)}
    audit.unchanged(held := [row for part in audit.rows.values() for row in part])
    assert len(held) == 4


BREAKS: list[tuple[int, Callable[[list[Row]], list[Row]]]] = [
    (2, lambda found: [found[0], *found[2:]]),
    (12, lambda found: [found[0]._replace(nonce="another"), *found[1:]]),
    (2, lambda found: [*found, found[-1]]),
]


@pytest.mark.parametrize(("number", "change"), BREAKS)
async def test_a_broken_record_is_seen(number: int, change: Callable[[list[Row]], list[Row]]) -> None:
    with pytest.raises(ViolationError, match=f"invariant {number}:"):
        audit_record(change(await rows()))


async def test_a_lost_or_changed_event_is_seen() -> None:
    found = await rows()
    audit = audit_record(found)
    for changed in (found[:-1], [*found, found[-1]], [*found[:-1], found[-1]._replace(detail="changed")]):
        with pytest.raises(ViolationError, match="invariant 1:"):
            audit.unchanged(changed)


def test_only_the_last_claim_appends() -> None:
    audit = RecordAudit()
    audit.claimed(0, 1, "a")
    audit.appends(0, 1, "a")
    audit.claimed(0, 2, "b")
    with pytest.raises(ViolationError, match="invariant 11:"):
        audit.appends(0, 1, "a")


async def test_read_models_are_compared_with_the_fold() -> None:
    found = await rows()
    balances = fold_balances(found, {0: 3})
    audit_balances(found, {0: 3}, balances)
    statements = fold_statements(found, {0: 4})
    audit_statements(found, {0: 4}, statements)
    with pytest.raises(ViolationError, match="invariant 9:"):
        audit_balances(found, {0: 4}, balances)
    with pytest.raises(ViolationError, match="invariant 9:"):
        audit_statements(found, {0: 3}, statements)


def sent_command(offset: int, **changes: Any) -> Sent:
    key = b"owner"
    return Sent("example-app", partition_of(key, 4), offset, key, json.dumps({**GOOD, **changes}).encode())


def row_of(sent: Sent, **changes: Any) -> Row:
    issued_at = datetime(2026, 1, 31, 12, tzinfo=UTC)
    command_id = UUID(GOOD["command_id"])
    row = Row(
        sent.partition, 1, 1, 10, 10, issued_at, issued_at, sent.offset, command_id, "example-app", "CREDIT_ADD",
        "owner", "credits", "n", None, None, None, None, b"",
    )  # fmt: skip
    return row._replace(**changes)


def test_every_command_has_one_event_at_its_first_copy() -> None:
    first, again = sent_command(0), sent_command(1)
    audit_input([first, again], [row_of(first)], [], 4)
    with pytest.raises(ViolationError, match="invariant 4:"):
        audit_input([first, again], [row_of(again)], [], 4)
    with pytest.raises(ViolationError, match="invariant 3:"):
        audit_input([first, again], [], [], 4)
    taken_away = first._replace(must_be_decided=False)
    audit_input([taken_away, again], [row_of(again)], [], 4)
    audit_input([taken_away, again], [row_of(first)], [], 4)


def test_what_cannot_be_read_lies_in_quarantine_byte_for_byte() -> None:
    sent = sent_command(0)._replace(value=b"{")
    row = Quarantined(sent.app, sent.partition, 0, sent.key, sent.value)
    audit_input([sent], [], [row], 4)
    for wrong in ([], [row, row], [row._replace(value=b"}")], [row._replace(command_offset=1)]):
        with pytest.raises(ViolationError, match="invariant 3:"):
            audit_input([sent], [], wrong, 4)


async def test_publications_are_what_is_recorded_in_order() -> None:
    record = InMemoryRecord.initialised(UUID(int=1), 1, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    hand = Hand(InMemoryEventStore(record))
    await hand.claim(0)
    for _ in range(3):
        hand.entry(0, 5)
    await hand.write()
    found = audit_record(Row._make(row) for row in record.events[0]).rows
    from ledger.messages.event_codec import encode_event

    events = await InMemoryEventStore(record).read_events(0, 0, 3)
    one, two, three = ((event.owner_id.encode(), encode_event(event)) for event in events)
    audit_published({0: [one, two, two, one, three]}, {0: [one]}, found)
    for wrong in ([one, three, two], [one, two], [one, two, (one[0], three[1].replace(b'":5', b'":6'))]):
        with pytest.raises(ViolationError, match="invariant 10:"):
            audit_published({0: wrong}, {}, found)
    with pytest.raises(ViolationError, match="invariant 8:"):
        audit_published({0: [one, two, three]}, {0: [(one[0], one[1] + b" ")]}, found)


def test_a_rule_of_a_newer_version_may_be_unknown_to_an_older_one() -> None:
    app = commands.App(commands.EXAMPLE_APP_OPERATIONS)
    newer = replace(app, sometimes_unknown=frozenset({"CREDIT_ADD"}))
    sent = sent_command(0)
    command = commands.read(sent.key, sent.value, sent.partition, 4)
    assert command is not None
    outcomes = commands.expected(command, newer, 0, datetime.now(UTC), None)
    assert {outcome.reason for outcome in outcomes} == {None, "UNKNOWN_OPERATION"}
