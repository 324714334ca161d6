"""Two readers of commands, the hot one (msgspec) and the documented one (pydantic), read the same from any bytes."""

from typing import Any

import msgspec
from hypothesis import example, given, settings

from ledger.domain.command import Command
from ledger.messages.command_codec import Unreadable, UnreadableReason, decode_command
from ledger.messages.command_model import CommandModel
from tests.properties.wire_texts import (
    FIELDS,
    ODD_VALUES,
    any_messages,
    damaged_messages,
    encoded,
    flawed_messages,
    readable_messages,
)

APP = "shop"


class _Owner(msgspec.Struct):
    owner_id: str


def read_hot(value: bytes) -> Command | Unreadable:
    """What the ledger consumer reads, from a message that has the right key."""
    found = decode_command(APP, None, value, 0, 1)
    assert isinstance(found, Unreadable)
    if found.reason is not UnreadableReason.WRONG_KEY:
        return found
    key = msgspec.json.decode(value, type=_Owner).owner_id.encode()
    return decode_command(APP, key, value, 0, 1)


def read_documented(value: bytes) -> Command | str:
    """What the model reads."""
    try:
        return CommandModel.from_json(value).command(APP)
    except ValueError as error:
        return str(error)


def check_agreement(value: bytes) -> None:
    hot, documented = read_hot(value), read_documented(value)
    if isinstance(hot, Command) or isinstance(documented, Command):
        assert hot == documented, value
        assert isinstance(hot, Command)
        check_storable(hot)


def check_storable(command: Command) -> None:
    texts = [command.operation, command.owner_id, command.nonce, command.credit_type, command.metadata or ""]
    assert all("\0" not in text for text in texts)
    for text in texts:
        text.encode()
    assert command.amount is None or -(2**63) <= command.amount < 2**63
    assert command.issued_at.utcoffset() is not None


@given(readable_messages())
@settings(max_examples=300)
def test_both_read_every_readable_message(value: bytes) -> None:
    assert isinstance(read_hot(value), Command), read_hot(value)
    check_agreement(value)


@given(flawed_messages())
@settings(max_examples=1_500)
def test_both_read_the_same_from_messages_with_flaws(value: bytes) -> None:
    check_agreement(value)


@given(damaged_messages())
@settings(max_examples=1_000)
def test_both_read_the_same_from_damaged_messages(value: bytes) -> None:
    check_agreement(value)


@given(any_messages)
@example(b"")
@example(b"\xef\xbb\xbf{}")
@settings(max_examples=300)
def test_both_read_the_same_from_any_bytes(value: bytes) -> None:
    check_agreement(value)


def test_both_read_the_same_from_every_odd_value_of_every_field() -> None:
    good: dict[str, Any] = {
        "command_id": "6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10",
        "operation": "CREDIT_ADD",
        "owner_id": "user-42",
        "nonce": "order-1",
        "issued_at": "2026-01-31T12:00:00Z",
    }
    for name in (*FIELDS, "unknown"):
        for odd in ODD_VALUES:
            texts = {**{field: encoded(text, ascii_only=True) for field, text in good.items()}, name: odd}
            body = ",".join(f'"{field}":{text}' for field, text in texts.items())
            check_agreement(f"{{{body}}}".encode("utf-8", "surrogatepass"))
