"""A mapping that remembers what was used lately and forgets the rest."""

from collections.abc import Iterable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most twice `limit` items: when as many are young, those that were not used since the last time are forgotten.

    Two generations instead of a linked list: a look-up costs two dictionary look-ups at most, and nothing is moved.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value, or None when it is not remembered."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self._young[key] = value
        return value

    def update(self, items: Iterable[tuple[K, V]]) -> None:
        """Remember these; call it with what is committed, and with nothing else."""
        self._young.update(items)
        if len(self._young) > self._limit:
            self._old = self._young
            self._young = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
