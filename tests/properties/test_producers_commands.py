"""Whatever a caller asks for is either refused before it is sent, or read by the ledger as it was meant."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import event, example, given
from hypothesis import strategies as st

from ledger.domain.command import Command
from ledger.messages.command_codec import decode_command
from ledger.messages.partitioning import partition_of
from producers import CommandRequest, InvalidCommand
from producers.command_request import prepare

PARTITIONS = 12
good_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)
# Every code point: NUL and lone surrogates too, at and beyond the limits of length.
any_texts = st.text(st.characters(), max_size=10) | st.integers(63, 130).map(lambda length: "ü" * length)
good_times = st.none() | st.datetimes(
    timezones=st.timezones(), min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)
)


def requests(
    texts: st.SearchStrategy[str],
    integers: st.SearchStrategy[int],
    floats: st.SearchStrategy[float],
    times: st.SearchStrategy[datetime | None],
) -> st.SearchStrategy[CommandRequest]:
    """Requests of these parts."""
    values = st.recursive(
        st.none() | st.booleans() | integers | floats | texts,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )
    return st.builds(
        CommandRequest,
        operation=texts,
        owner_id=texts,
        nonce=texts,
        amount=st.none() | integers,
        credit_type=texts,
        metadata=st.none() | st.dictionaries(texts, values, max_size=4),
        not_after=times,
        command_id=st.none() | st.uuids(),
        issued_at=times,
    )


good_requests = requests(
    good_texts, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False), good_times
)
odd_numbers = requests(good_texts, st.integers(), st.floats(), good_times)
any_requests = requests(any_texts, st.integers(), st.floats(), good_times | st.datetimes())


@example(CommandRequest("OP", "o", "n", metadata={"x": [math.inf]}))
@given(good_requests | odd_numbers | any_requests)
def test_a_command_is_refused_or_read_as_it_was_meant(request: CommandRequest) -> None:
    try:
        prepared = prepare(request, "shop", PARTITIONS)
    except InvalidCommand:
        event("refused")
        return
    event("sent")
    key, value = prepared.record
    assert prepared.partition == partition_of(key, PARTITIONS)
    read = decode_command("shop", key, value, prepared.partition, PARTITIONS)
    assert isinstance(read, Command), read
    assert read == prepared.command
    assert (read.operation, read.owner_id, read.nonce) == (request.operation, request.owner_id, request.nonce)
    assert (read.amount, read.credit_type) == (request.amount, request.credit_type)
    assert request.command_id in (None, read.command_id)
    for asked, sent in ((request.not_after, read.not_after), (request.issued_at, read.issued_at)):
        assert asked is None or sent == asked.astimezone(UTC)  # Python holds no hour that comes twice for equal
    assert _metadata(read) == request.metadata


def _metadata(command: Command) -> Mapping[str, Any] | None:
    return None if command.metadata is None else dict(msgspec.json.decode(command.metadata))
