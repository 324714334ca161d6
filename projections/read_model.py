"""What a read model is: a name, a fold, and its SQL; and what a version of it is."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
    """One read model. Its folder holds, in `sql/`, one statement a file, with `{version}` where the number goes:
    `create_table.sql`, `drop_table.sql`, `fill.sql` ($1 partition, $2 and $3 the first and the last sequence: folds
    these events of the record into the tables) and whatever its own code uses.
    """

    name: str
    package: str
    write: Write

    def sql(self, name: str, version: int) -> str:
        """A statement of the folder, for the tables of this version."""
        return versioned_sql(self.package, name, version)


class ReadModelVersion(NamedTuple):
    """One version of one read model."""

    read_model: str
    version: int


def versioned_sql(package: str, name: str, version: int) -> str:
    """The statement `<package>/sql/<name>.sql` for the tables of a version."""
    return sql(package, name).replace("{version}", str(int(version)))
