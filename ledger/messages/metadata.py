"""What metadata must be: a JSON object of limited size and depth, kept as the text that was sent."""

from typing import Any, Final

import msgspec

from ledger.domain.limits import METADATA_BYTES_MAX

METADATA_DEPTH_MAX: Final = 100
"""Deepest nesting: readers in other languages stop between 128 and 1,000; the depth of our own stack is no limit."""

_object_decoder: Final = msgspec.json.Decoder(dict[str, Any])


def metadata_error(raw: bytes) -> str | None:
    """What is wrong with the metadata as it was sent, or None."""
    if len(raw) > METADATA_BYTES_MAX:
        return f"metadata has {len(raw)} bytes, at most {METADATA_BYTES_MAX} are allowed"
    if _depth(raw) > METADATA_DEPTH_MAX:
        return f"metadata is nested deeper than {METADATA_DEPTH_MAX}"
    try:
        # In full: skipping, as for a raw value, checks neither UTF-8 nor surrogates nor the range of numbers.
        _object_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"metadata is not a JSON object: {error}"
    return None


def _depth(raw: bytes) -> int:
    if raw.count(b"[") + raw.count(b"{") <= METADATA_DEPTH_MAX:
        return 0  # cannot be too deep; the usual case
    depth = deepest = 0
    in_string = escaped = False
    for byte in raw:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest
