"""Names of topics, partitions of owners, ids of commands, and the wire forms that others rely on."""

import time
from datetime import UTC, datetime
from typing import Any
from uuid import RFC_4122, UUID

import msgspec
import pytest

from ledger.domain.command import Command
from ledger.messages.command_codec import Unreadable, UnreadableReason, decode_command, encode_command
from ledger.messages.command_ids import derived_command_id, new_command_id
from ledger.messages.event_codec import UnreadableEventError, decode_event, encode_event
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics


def test_topics_are_named_by_their_prefix() -> None:
    topics = Topics("bank")
    assert (topics.events, topics.replays) == ("bank.events", "bank.replays")
    assert (topics.commands("shop"), topics.parked("shop")) == ("bank.commands.shop", "bank.parked.shop")


@pytest.mark.parametrize(
    ("topic", "app"),
    [
        ("ledger.commands.shop", "shop"),
        ("ledger.commands.shop-2", "shop-2"),
        ("ledger.commands.", None),
        ("ledger.commands.Shop", None),
        ("ledger.commands.shop.old", None),
        ("ledger.commands.shop\n", None),
        ("ledger.commands", None),
        ("ledger.events", None),
        ("shop", None),
        ("other.commands.shop", None),
        ("xledger.commands.shop", None),
        ("ledger.parked.shop", None),
    ],
)
def test_the_app_is_read_from_the_name_of_its_topic(topic: str, app: str | None) -> None:
    assert Topics().app_of(topic) == app


@pytest.mark.parametrize(
    ("owner_id", "of_12", "of_48"),
    [("user-1", 8, 44), ("user-42", 4, 28), ("a", 4, 28), ("é\U0001f600", 5, 5)],
)
def test_the_partition_of_an_owner_is_pinned(owner_id: str, of_12: int, of_48: int) -> None:
    """An owner whose partition changed would have two histories."""
    key = owner_id.encode()
    assert (partition_of(key, 12), partition_of(key, 48)) == (of_12, of_48)


def test_the_partition_of_a_key_is_the_one_of_the_java_clients() -> None:
    """Values of Kafka's own test of Utils.murmur2 (clients/src/test/java/.../UtilsTest.java), made positive."""
    for key, signed in {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }.items():
        assert partition_of(key, 2**31) == signed & 0x7FFFFFFF


def test_derived_command_ids_are_pinned() -> None:
    """Changing them would turn every retry, and a file imported again, into new requests."""
    assert derived_command_id("example-app", "user-1", "key-1") == UUID("0a7d185f-1c1d-5645-bf0b-8ab81cedd021")
    assert derived_command_id() == UUID("5e97a980-4f08-54b5-bfb6-fcfc4f6f4bbc")
    assert derived_command_id("é\U0001f600", "") == UUID("d39cd775-2fd5-50ac-bbba-0461cb73f161")
    assert derived_command_id("a").version == 5


def test_derived_command_ids_keep_their_parts_apart() -> None:
    ids = [derived_command_id(*parts) for parts in (("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc"), ())]
    assert len(set(ids)) == len(ids)


def test_new_command_ids_are_of_version_7_and_rise_with_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = [new_command_id() for _ in range(1_000)]
    after = time.time_ns() // 1_000_000
    assert len(set(ids)) == 1_000
    assert {(each.version, each.variant) for each in ids} == {(7, RFC_4122)}
    assert all(before <= each.int >> 80 <= after for each in ids)


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMMAND = Command("shop", UUID(int=7), "CREDIT_ADD", "user-1", "order-1", NOW)


def test_a_command_on_the_wire_is_pinned() -> None:
    assert encode_command(COMMAND) == (
        b'{"command_id":"00000000-0000-0000-0000-000000000007","operation":"CREDIT_ADD","owner_id":"user-1",'
        b'"nonce":"order-1","issued_at":"2026-01-31T12:00:00Z","credit_type":"credits"}'
    )


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (None, "NULL_VALUE", "no value"),
        (b"", "NOT_JSON", "truncated"),
        (b"not JSON", "NOT_JSON", "malformed"),
        (b'{"command_id"', "NOT_JSON", "truncated"),
        (b"\xff", "NOT_JSON", "malformed"),
        (b"[]", "INVALID_FIELD", "Expected `object`"),
        (b"null", "INVALID_FIELD", "Expected `object`"),
        (b"{}", "INVALID_FIELD", "missing required field `command_id`"),
        (b"[" * 100_000, "INVALID_FIELD", "Expected `object`"),
        (b'{"x":' * 100_000, "INVALID_FIELD", "unknown field `x`"),
    ],
)
def test_what_is_no_command_is_unreadable_with_a_reason(value: bytes | None, reason: str, detail: str) -> None:
    found = decode_command("shop", b"user-1", value, 0, 12)
    assert isinstance(found, Unreadable)
    assert found.reason == UnreadableReason(reason)
    assert detail in found.detail


def with_fields(**fields: Any) -> bytes:
    """The pinned command with other fields."""
    return msgspec.json.encode({**msgspec.json.decode(encode_command(COMMAND)), **fields})


def nested(depth: int) -> Any:
    return {"x": nested(depth - 1)} if depth else 1


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 2**63},
        {"amount": -(2**63) - 1},
        {"amount": "5"},
        {"amount": 5.0},
        {"amount": None},
        {"owner_id": ""},
        {"owner_id": "o" * 129},
        {"nonce": ""},
        {"nonce": "n" * 129},
        {"operation": ""},
        {"operation": "O" * 65},
        {"credit_type": ""},
        {"credit_type": "c" * 65},
        {"owner_id": "a\0b"},
        {"nonce": "a\0b"},
        {"operation": "a\0b"},
        {"credit_type": "a\0b"},
        {"issued_at": "2026-01-31T12:00:00"},
        {"issued_at": "0001-01-01T00:00:00+14:00"},
        {"not_after": "9999-12-31T23:59:59-14:00"},
        {"not_after": "2026-01-31"},
        {"metadata": "text"},
        {"metadata": []},
        {"metadata": None},
        {"metadata": {"x": "y" * (4096 - len('{"x":""}') + 1)}},
        {"metadata": nested(101)},
        {"app": "other"},
    ],
    ids=lambda fields: str(fields)[:60],
)
def test_a_field_that_is_not_what_it_must_be_makes_a_command_unreadable(fields: dict[str, Any]) -> None:
    key = str(fields.get("owner_id", COMMAND.owner_id)).encode()
    found = decode_command("shop", key, with_fields(**fields), partition_of(key, 12), 12)
    assert isinstance(found, Unreadable)
    assert found.reason is UnreadableReason.INVALID_FIELD


@pytest.mark.parametrize("metadata", [b'{"x": "\xff"}', b'{"x": "\\ud800"}', b'{"x": 1e400}', b'{"x": [1, 2}'], ids=str)
def test_metadata_that_other_readers_could_not_read_make_a_command_unreadable(metadata: bytes) -> None:
    value = encode_command(COMMAND).replace(b"}", b',"metadata":' + metadata + b"}")
    found = decode_command("shop", b"user-1", value, partition_of(b"user-1", 12), 12)
    assert isinstance(found, Unreadable)


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 2**63 - 1},
        {"amount": -(2**63)},
        {"owner_id": "o" * 128, "nonce": "n" * 128, "operation": "O" * 64, "credit_type": "c" * 64},
        {"issued_at": "0001-01-01T00:00:00Z", "not_after": "9999-12-31T23:59:59.999999Z"},
        {"metadata": {"x": "y" * (4096 - len('{"x":""}'))}},
        {"metadata": nested(100)},
        {"metadata": {}},
    ],
    ids=["largest", "smallest", "longest", "earliest and latest", "4 KiB", "deepest", "empty"],
)
def test_fields_up_to_their_limits_are_readable(fields: dict[str, Any]) -> None:
    key = str(fields.get("owner_id", COMMAND.owner_id)).encode()
    assert isinstance(decode_command("shop", key, with_fields(**fields), partition_of(key, 12), 12), Command)


@pytest.mark.parametrize("key", [None, b"", b"user-2", b"user-1 ", b"\xff"])
def test_a_wrong_key_is_unreadable(key: bytes | None) -> None:
    found = decode_command("shop", key, encode_command(COMMAND), 0, 12)
    assert isinstance(found, Unreadable)
    assert found.reason is UnreadableReason.WRONG_KEY


def test_a_command_on_another_partition_than_its_owners_is_unreadable() -> None:
    right = partition_of(b"user-1", 12)
    for partition in range(12):
        found = decode_command("shop", b"user-1", encode_command(COMMAND), partition, 12)
        if partition == right:
            assert found == COMMAND
        else:
            assert isinstance(found, Unreadable)
            assert found.reason is UnreadableReason.WRONG_PARTITION
            assert "murmur2_random" in found.detail


@pytest.mark.parametrize(
    "value",
    [
        b'{"amount_\\u0000": 1}',
        b'{"\\ud800": 1}',
        b'{"x\\u0000' + b"y" * 5_000 + b'": 1}',
        b'{"owner_id": "\xff"}',
    ],
)
def test_the_detail_of_an_unreadable_message_can_be_stored(value: bytes) -> None:
    found = decode_command("shop", b"k\0\xff", value, 0, 12)
    assert isinstance(found, Unreadable)
    assert "\0" not in found.detail
    assert len(found.detail) <= 500
    found.detail.encode()


@pytest.mark.parametrize("value", [None, b"", b"{}", b"[1]", b"\xff", b'{"type": 5}', b'{"x":' + b"[" * 9_000])
def test_what_is_no_event_is_refused_with_a_reason(value: bytes | None) -> None:
    with pytest.raises(UnreadableEventError):
        decode_event(value)


def test_an_event_with_metadata_is_read_back() -> None:
    value = (
        b'{"type":"entry_posted","partition":8,"sequence":1,"app":"shop",'
        b'"command_id":"00000000-0000-0000-0000-000000000007","operation":"CREDIT_ADD","owner_id":"user-1",'
        b'"credit_type":"credits","account_version":1,"amount":10,"balance_after":10,"nonce":"order-1",'
        b'"issued_at":"2026-01-31T12:00:00Z","occurred_at":"2026-01-31T12:00:01Z","prev_hash":"00","hash":"01",'
        b'"metadata":{"b": 1.50,  "a": null}}'
    )
    event = decode_event(value)
    assert event.metadata is not None
    assert bytes(event.metadata) == b'{"b": 1.50,  "a": null}'
    assert encode_event(event) == value
    assert decode_event(value.replace(b',"metadata":{"b": 1.50,  "a": null}', b"")).metadata is None


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ('"amount":5,"amount":5', "amount"),
        ('"amount":-5,"\\u0061mount":5', "amount"),
        ('"owner_id":"user-1"', "owner_id"),
        ('"credit_type":"a","credit_type":"b"', "credit_type"),
        ('"not_after":"2026-01-31T12:00:00Z","not_after":"2026-01-31T12:00:00Z"', "not_after"),
        ('"metadata":{"a":1},"metadata":{}', "metadata"),
        ('"metadata":5,"metadata":{"a":"\\""}', "metadata"),
    ],
)
def test_a_field_that_is_given_twice_makes_a_command_unreadable(more: str, name: str) -> None:
    """Which one counts? A reader that checks the first and one that executes the last could be played off."""
    value = encode_command(COMMAND)[:-1].replace(b',"credit_type":"credits"', b"") + f",{more}}}".encode()
    found = decode_command("shop", b"user-1", value, 8, 12)
    assert isinstance(found, Unreadable)
    assert (found.reason, found.detail) == (UnreadableReason.INVALID_FIELD, f"the field `{name}` is given twice")


@pytest.mark.parametrize("nonce", ['"', '\\"', "\\", 'a":1,"amount":5', "é\U0001f600", ':"'])
def test_texts_that_look_like_fields_do_not(nonce: str) -> None:
    command = Command("shop", UUID(int=7), "CREDIT_ADD", "user-1", nonce, NOW, metadata='{"amount":1,"amount":"\\""}')
    assert decode_command("shop", b"user-1", encode_command(command), 8, 12) == command
