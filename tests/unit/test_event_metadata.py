"""Events with metadata travel through their codec: the text stays as it was sent."""

from datetime import UTC, datetime
from uuid import uuid4

import msgspec
import pytest

from ledger.domain.event import RecordedEvent
from ledger.messages.event_codec import decode_event, encode_event


def event(metadata: bytes | None, nonce: str = "n") -> RecordedEvent:
    now = datetime.now(UTC)
    raw = None if metadata is None else msgspec.Raw(metadata)
    return RecordedEvent(
        "entry_posted", 1, 2, "a", uuid4(), "OP", "o", "credits", 1, 5, 5, nonce, now, now, "00" * 32, "11" * 32, raw
    )


@pytest.mark.parametrize("metadata", [None, b"{}", b'{"b": 1.0, "a":[{"metadata":null}], "b":2}', '{"ü":""}'.encode()])
@pytest.mark.parametrize("nonce", ["n", '"metadata"'])
def test_what_was_encoded_is_decoded(metadata: bytes | None, nonce: str) -> None:
    original = event(metadata, nonce)
    decoded = decode_event(encode_event(original))
    assert type(decoded) is RecordedEvent
    assert decoded == original
    assert (None if decoded.metadata is None else bytes(decoded.metadata)) == metadata


def test_fields_that_a_reader_does_not_know_are_ignored_beside_metadata() -> None:
    original = event(b'{"a":1}')
    assert decode_event(encode_event(original)[:-1] + b',"held":5}') == original


def test_null_is_no_metadata() -> None:
    assert decode_event(encode_event(event(None))[:-1] + b',"metadata":null}').metadata is None
