"""What a read model is: a name, a fold, and the SQL of its tables, of which each version has its own."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache

import asyncpg

from ledger.domain.event import RecordedEvent
from ledger.sql_files import sql

Write = Callable[[asyncpg.Connection, int, Sequence[RecordedEvent]], Awaitable[None]]
"""Writes events into the tables of a version, inside the caller's transaction: (connection, version, events).

The events are new to this version, in order within each partition, of any number of partitions. Raises
ReadModelMismatchError where the tables contradict them.
"""


class ReadModelMismatchError(Exception):
    """The tables of a read model contradict the events: something else changed them. Nothing was committed."""


@dataclass(frozen=True, slots=True)
class ReadModel:
    """One read model. The statements lie in `<package>/sql`, one a file, with `{version}` where the number goes."""

    name: str
    package: str
    write: Write
    create: tuple[str, ...]
    """Statements that make the tables of a version."""
    fill: tuple[str, ...]
    """Statements that fold events of the record into them: $1 partition, $2 and $3 the first and last sequence, which
    continue what has been filled before."""
    drop: tuple[str, ...]
    """Statements that remove the tables, if they exist."""
    index: tuple[str, ...] = ()
    """Statements that make indexes which `fill` does without, run once when the first filling is done: an index made
    from a full table costs less than one that grows with it (statements: 0.6 of the time)."""

    def sql(self, name: str, version: int) -> str:
        """A statement of the folder, for the tables of this version."""
        return versioned_sql(self.package, name, version)


@cache
def versioned_sql(package: str, name: str, version: int) -> str:
    """The statement `<package>/sql/<name>.sql` for the tables of a version."""
    return sql(package, name).replace("{version}", str(int(version)))
