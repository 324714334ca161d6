"""Sets up a ledger in a migrated database: its id, its number of partitions, and a head for each."""

from uuid import UUID, uuid4

import asyncpg

from ledger.domain.chain import GENESIS
from ledger.event_store.protocol import ForeignLedgerError, Identity, RecordMismatchError
from ledger.sql_files import sql

_PACKAGE = "ledger.event_store"


async def initialise(connection: asyncpg.Connection, partitions: int) -> Identity:
    """Make this database the record of a ledger of so many partitions; does nothing where it is one already.

    Raises:
        RecordMismatchError: it is the record of a ledger of another number of partitions.
    """
    async with connection.transaction():
        await connection.execute(sql(_PACKAGE, "insert_identity"), uuid4(), partitions)
        identity = await read_identity(connection)
        if identity.partitions != partitions:
            raise RecordMismatchError(
                f"this ledger has {identity.partitions} partitions since its first start, {partitions} are asked for; "
                f"set LEDGER_PARTITIONS={identity.partitions} (another number is another ledger: docs/scaling.md, "
                "'Moving to a larger N')"
            )
        await connection.execute(sql(_PACKAGE, "insert_heads"), partitions, GENESIS)
    return identity


async def read_identity(connection: asyncpg.Connection) -> Identity:
    """Which ledger this database records.

    Raises:
        RecordMismatchError: none has been set up yet.
    """
    row = await connection.fetchrow(sql(_PACKAGE, "read_identity"))
    if row is None:
        raise RecordMismatchError("no ledger has been set up in this database; run `ledger migrate`")
    return Identity(UUID(str(row["ledger_id"])), row["partitions"])


class SameLedger:
    """For a process that connects again and again: is it still the ledger that it found first? A database can be
    swapped under an address."""

    def __init__(self) -> None:
        self._ledger_id: UUID | None = None

    async def require(self, connection: asyncpg.Connection) -> None:
        """Look, on a new connection, before anything is read or written there.

        Where no ledger was found yet and none is there, nothing is said: whoever asks for something finds it out.

        Raises:
            ForeignLedgerError: it is another one's database, or none's.
        """
        try:
            row = await connection.fetchrow(sql(_PACKAGE, "read_identity"))
        except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InsufficientPrivilegeError):
            row = None
        found = None if row is None else UUID(str(row["ledger_id"]))
        if self._ledger_id is None:
            self._ledger_id = found
        elif found != self._ledger_id:
            raise ForeignLedgerError(self._ledger_id, found)
