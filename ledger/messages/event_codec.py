"""Events on the wire: `ledger.events` and `ledger.replays`. Readers ignore fields that they do not know."""

from typing import Final

import msgspec

from ledger.domain.event import RecordedEvent

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(RecordedEvent)
_NULL: Final = b"null"


class UnreadableEventError(Exception):
    """A message on a topic that only the ledger may write cannot be read as an event."""


def encode_event(event: RecordedEvent) -> bytes:
    """The value of the message that carries this event; its key is `owner_id` in UTF-8."""
    return _encoder.encode(event)


def decode_event(value: bytes | None) -> RecordedEvent:
    """Read the value of a message.

    Raises:
        UnreadableEventError: it is no event; the text says why.
    """
    if value is None:
        raise UnreadableEventError("the message has no value")
    try:
        event = _decoder.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableEventError(f"not an event: {error}") from error
    except RecursionError as error:
        raise UnreadableEventError("not an event: nested too deeply") from error
    if event.metadata is not None and bytes(event.metadata) == _NULL:
        return msgspec.structs.replace(event, metadata=None)
    return event
