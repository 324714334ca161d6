"""Command ids: version 7 for new requests, version 5 where the id follows from what is requested."""

import os
import time
from typing import Final
from uuid import UUID, uuid5

_NAMESPACE: Final = UUID("6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10")
"""The namespace of all derived ids. Changing it would turn every retry into a new request."""


def new_command_id() -> UUID:
    """A UUID of version 7 (RFC 9562): its first 48 bits are the time, so that the ledger's index grows at its end."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | (7 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return UUID(int=value)


def derived_command_id(*parts: str) -> UUID:
    """A UUID of version 5 of these texts: the same texts give the same id, on every machine and for ever."""
    # A length before each text keeps ("ab", "c") and ("a", "bc") apart.
    return uuid5(_NAMESPACE, "".join(f"{len(part)}:{part}" for part in parts))
