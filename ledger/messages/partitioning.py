"""Which partition an owner lies on: murmur2(key) mod N, the default of Java clients and of aiokafka."""

import struct
from functools import lru_cache
from typing import Final

OWNERS_CACHED_MAX: Final = 200_000
"""Hashing takes some microseconds, so the hashes of recent owners are kept."""

_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995
_32_BITS: Final = 0xFFFFFFFF
_WORDS_CACHED_MAX: Final = 64
_words: Final = lru_cache(_WORDS_CACHED_MAX)(lambda count: struct.Struct(f"<{count}I").unpack_from)


@lru_cache(maxsize=OWNERS_CACHED_MAX)
def _positive_murmur2(key: bytes) -> int:
    """murmur2 as Kafka's Java client computes it (org.apache.kafka.common.utils.Utils), without the sign.

    aiokafka's takes four times as long: it puts the words together byte by byte. A property test compares the two.
    """
    length = len(key)
    state = _SEED ^ length
    for word in _words(length >> 2)(key):
        mixed = word * _M & _32_BITS
        state = (state * _M & _32_BITS) ^ ((mixed ^ mixed >> 24) * _M & _32_BITS)
    rest = length & 3
    if rest:
        state = (state ^ int.from_bytes(key[-rest:], "little")) * _M & _32_BITS
    state = (state ^ state >> 13) * _M & _32_BITS
    return (state ^ state >> 15) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a message key (the owner_id in UTF-8) among N partitions."""
    return _positive_murmur2(key) % partitions
