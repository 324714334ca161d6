"""Which partition an owner lies on: murmur2(key) mod N, the default of Java clients and of aiokafka."""

from functools import lru_cache
from typing import Final

from aiokafka.partitioner import murmur2

OWNERS_CACHED_MAX: Final = 200_000
"""murmur2 is pure Python (about 20 us an owner), so hashes of recent owners are kept."""


@lru_cache(maxsize=OWNERS_CACHED_MAX)
def _positive_murmur2(key: bytes) -> int:
    return int(murmur2(key)) & 0x7FFFFFFF


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a message key (the owner_id in UTF-8) among N partitions."""
    return _positive_murmur2(key) % partitions
