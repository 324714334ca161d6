"""The limits of the domain, each with its unit in its name (source: docs/reference.md)."""

from typing import Final

AMOUNT_MAX: Final = 2**53 - 1
"""Largest absolute value of an amount and largest balance: what every JSON reader can hold exactly."""

OWNER_ID_CHARACTERS_MAX: Final = 128
NONCE_CHARACTERS_MAX: Final = 128
OPERATION_CHARACTERS_MAX: Final = 64
CREDIT_TYPE_CHARACTERS_MAX: Final = 64
METADATA_BYTES_MAX: Final = 4096
APP_PATTERN: Final = r"^[a-z][a-z0-9-]{0,30}$"
DEFAULT_CREDIT_TYPE: Final = "credits"
SEQUENCE_BITS: Final = 40
"""Bits of an entry id that hold the sequence; the partition lies above them."""
