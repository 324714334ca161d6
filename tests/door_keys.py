"""API keys for tests of the doors, without Postgres."""

from collections.abc import Collection, Iterable
from datetime import datetime

from ledger.api_keys.secret import PresentedKey, new_key, read_key
from ledger.api_keys.store import DoorKey, DoorKeys, Scope
from producers.doors.key_ring import KeysUnavailableError


def presented(key: str) -> PresentedKey:
    """The key as a caller shows it."""
    found = read_key(key)
    assert found is not None
    return found


def door_key(key: str, app: str = "shop", scopes: Iterable[Scope] = Scope, expires: datetime | None = None) -> DoorKey:
    """The key as the table has it."""
    shown = presented(key)
    return DoorKey(shown.id, app, frozenset(scopes), shown.digest, expires)


class KeysInMemory:
    """`KeySource` without a database."""

    def __init__(self, *keys: DoorKey) -> None:
        self.keys = list(keys)
        self.any_made = bool(keys)
        self.away = False
        self.reads = 0
        self.used: list[str] = []

    def make(self, app: str, *scopes: Scope) -> str:
        """A new key of an app, for reading and writing if nothing is said."""
        key = new_key()
        self.keys.append(door_key(key, app, scopes or Scope))
        self.any_made = True
        return key

    async def read(self) -> DoorKeys:
        self.reads += 1
        if self.away:
            raise KeysUnavailableError("Postgres: it is away")
        return DoorKeys(self.any_made, list(self.keys))

    async def note_used(self, key_ids: Collection[str]) -> None:
        self.used += key_ids

    async def close(self) -> None:
        pass
