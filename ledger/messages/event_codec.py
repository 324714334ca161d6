"""Events on the wire: `ledger.events` and `ledger.replays`. Readers ignore fields that they do not know."""

from typing import Final

import msgspec

from ledger.domain.event import RecordedEvent


class _EventWithMetadata(RecordedEvent, frozen=True, gc=False):
    """For decoding alone: beside None, msgspec takes no raw value; beside UNSET it does."""

    metadata: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET  # type: ignore[assignment]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(RecordedEvent)
_decoder_with_metadata: Final = msgspec.json.Decoder(_EventWithMetadata)
_METADATA_KEY: Final = b'"metadata"'
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
        # Most events have none, and then the plain decoder is half the work.
        if _METADATA_KEY not in value:
            return _decoder.decode(value)
        message = _decoder_with_metadata.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnreadableEventError(f"not an event: {error}") from error
    fields = msgspec.structs.asdict(message)
    if message.metadata is msgspec.UNSET or bytes(fields["metadata"]) == _NULL:
        fields["metadata"] = None
    return RecordedEvent(**fields)
