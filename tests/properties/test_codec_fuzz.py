"""The codecs under mutated messages: they never raise what they do not promise, and both readers of commands agree.

The mutations know the form of a message: they nest, splice, repeat and stretch its parts, and damage its bytes. A few
hundred in every run; `make fuzz` (marked slow) tries many more.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ledger.domain.command import Command
from ledger.domain.event import RecordedEvent
from ledger.domain.limits import METADATA_BYTES_MAX
from ledger.messages.command_codec import Unreadable, decode_command, encode_command
from ledger.messages.event_codec import UnreadableEventError, decode_event, encode_event
from ledger.messages.metadata import METADATA_DEPTH_MAX, metadata_error
from producers.command_request import prepare
from producers.errors import InvalidCommand
from producers.http_models import EntryBatch, EntryRequest
from producers.strict_json_route import strict_json
from tests.properties.test_codecs import recorded_events
from tests.properties.test_commands_on_the_wire import check_agreement
from tests.properties.wire_texts import ODD_VALUES, flawed_messages, metadata_objects, readable_messages

EXAMPLES = 150
EXAMPLES_FOR_LONG = 5_000

BOMS = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff", b"\xff\xfe\x00\x00", b"+/v8"]
NOT_UTF8 = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf8\x88\x80\x80\x80"]
HUGE_NUMBERS = [
    b"1" * 5_000,
    b"-" + b"9" * 400,
    b"1e99999",
    b"0." + b"0" * 5_000 + b"1",
    b"1E+400",
    b"18446744073709551616",
]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"true",
    b"\0",
    b" ",
    b"\x0b",
]


@st.composite
def mutated(draw: st.DrawFn, originals: st.SearchStrategy[bytes]) -> bytes:
    """A message after one to four mutations."""
    value = draw(originals)
    for _ in range(draw(st.integers(1, 4))):
        value = draw(st.sampled_from(MUTATIONS))(draw, value)
    return value


def _place(draw: st.DrawFn, value: bytes) -> int:
    return draw(st.integers(0, len(value)))


def _slice(draw: st.DrawFn, value: bytes) -> tuple[int, int]:
    start = _place(draw, value)
    return start, min(len(value), start + draw(st.integers(0, 40)))


def _repeat(draw: st.DrawFn, value: bytes) -> bytes:
    start, end = _slice(draw, value)
    return value[:end] + value[start:end] * draw(st.sampled_from([1, 2, 50])) + value[end:]


def _drop(draw: st.DrawFn, value: bytes) -> bytes:
    start, end = _slice(draw, value)
    return value[:start] + value[end:]


def _insert(draw: st.DrawFn, value: bytes) -> bytes:
    start, end = _slice(draw, value)
    return value[:start] + draw(st.sampled_from(TOKENS + NOT_UTF8 + HUGE_NUMBERS + BOMS)) + value[end:]


def _flip(draw: st.DrawFn, value: bytes) -> bytes:
    if not value:
        return value
    at = draw(st.integers(0, len(value) - 1))
    return value[:at] + bytes([value[at] ^ (1 << draw(st.integers(0, 7)))]) + value[at + 1 :]


def _nest(draw: st.DrawFn, value: bytes) -> bytes:
    start, end = _slice(draw, value)
    depth = draw(st.sampled_from([1, 99, 100, 101, 500, 20_000]))
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}")]))
    return value[:start] + opening * depth + value[start:end] + closing * depth + value[end:]


def _mark(draw: st.DrawFn, value: bytes) -> bytes:
    return draw(st.sampled_from(BOMS)) + value


def _recode(draw: st.DrawFn, value: bytes) -> bytes:
    return value.decode("utf-8", "replace").encode(draw(st.sampled_from(["utf-16", "utf-16-be", "utf-32", "utf-7"])))


def _member(draw: st.DrawFn, value: bytes) -> bytes:
    """Another value in the place of one, or a member more, of the outermost object."""
    try:
        members = json.loads(value, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return value
    if not isinstance(members, list) or not all(isinstance(one, tuple) for one in members):
        return value
    names = [str(name) for name, _ in members] + ["amount", "metadata", "extra"]
    name = json.dumps(draw(st.sampled_from(names)))
    member = f"{name}:{draw(st.sampled_from(ODD_VALUES))}".encode("utf-8", "surrogatepass")
    end = value.rfind(b"}")
    return value[:end] + (b"," if members else b"") + member + value[end:]


MUTATIONS: list[Callable[[st.DrawFn, bytes], bytes]] = [
    _repeat,
    _drop,
    _insert,
    _flip,
    _nest,
    _mark,
    _recode,
    _member,
]

commands_on_the_wire = readable_messages() | flawed_messages()
events_on_the_wire = recorded_events().map(encode_event)


def check_command(value: bytes, key: bytes | None, partition: int, partitions: int) -> None:
    """The hot decoder answers whatever it is given, with what the database can store; and both readers agree."""
    found = decode_command("shop", key, value, partition, partitions)
    if isinstance(found, Unreadable):
        found.detail.encode()
        assert found.detail
        assert "\0" not in found.detail
    else:
        assert decode_command("shop", key, encode_command(found), partition, partitions) == found
    check_agreement(value)


def check_event(value: bytes) -> None:
    """A reader of events reads one or says that it is none."""
    try:
        event = decode_event(value)
    except UnreadableEventError:
        return
    assert isinstance(event, RecordedEvent)
    encode_event(event)


def check_metadata(raw: bytes) -> None:
    """What is let through is an object that every reader can read; what is not, has a reason that can be stored."""
    error = metadata_error(raw)
    if error is not None:
        error.encode()
        return
    assert len(raw) <= METADATA_BYTES_MAX
    assert isinstance(json.loads(raw), dict)
    text = raw.decode()
    assert _deepest(json.loads(text)) <= METADATA_DEPTH_MAX


def _deepest(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_deepest, value.values()), default=0)
    return 1 + max(map(_deepest, value), default=0) if isinstance(value, list) else 0


def check_http_body(body: bytes, model: type[EntryRequest] | type[EntryBatch]) -> None:
    """What HTTP takes from a body is a command that the client can send and the ledger can read."""
    try:
        read = model.model_validate(strict_json(body))
    except (ValueError, ValidationError):
        return
    for request in read.entries if isinstance(read, EntryBatch) else [read]:
        try:
            prepared = prepare(request.command_request(None), "shop", 12)
        except InvalidCommand:
            continue  # the client checks too; one that it refuses is 422
        found = decode_command("shop", prepared.record.key, prepared.record.value, prepared.partition, 12)
        assert isinstance(found, Command), found


http_bodies = st.fixed_dictionaries(
    {
        "operation": st.sampled_from(["CREDIT_ADD", "X" * 64, "é"]),
        "owner_id": st.text(min_size=1, max_size=130),
        "nonce": st.text(min_size=1, max_size=130),
    },
    optional={
        "amount": st.integers(-(2**64), 2**64) | st.none(),
        "credit_type": st.sampled_from(["credits", ""]),
        "metadata": metadata_objects | st.none(),
        "not_after": st.sampled_from(["2026-01-31T12:00:00Z", "0001-01-01T00:00:00+00:01", None]),
    },
)
single_bodies = http_bodies.map(lambda body: json.dumps(body).encode())
batch_bodies = st.lists(http_bodies, max_size=3).map(lambda bodies: json.dumps({"entries": bodies}).encode())

places = st.tuples(st.none() | st.binary(max_size=8) | st.just(b"user-42"), st.integers(0, 11), st.just(12))

RUNS: dict[str, Any] = {
    "commands": lambda: given(mutated(commands_on_the_wire), places)(lambda value, place: check_command(value, *place)),
    "events": lambda: given(mutated(events_on_the_wire))(check_event),
    "metadata": lambda: given(mutated(metadata_objects.map(msgspec.json.encode)))(check_metadata),
    "a command over HTTP": lambda: given(mutated(single_bodies))(lambda body: check_http_body(body, EntryRequest)),
    "a batch over HTTP": lambda: given(mutated(batch_bodies))(lambda body: check_http_body(body, EntryBatch)),
}


@pytest.mark.parametrize("what", RUNS)
def test_mutated_messages(what: str) -> None:
    settings(max_examples=EXAMPLES)(RUNS[what]())()


@pytest.mark.slow
@pytest.mark.fuzz
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("what", RUNS)
def test_many_mutated_messages(what: str) -> None:
    settings(max_examples=EXAMPLES_FOR_LONG)(RUNS[what]())()
