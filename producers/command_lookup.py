"""What the record says about one command: its event, its quarantine, or how far its topic is consumed."""

from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self
from uuid import UUID

import asyncpg

from ledger.domain.event import RecordedEvent
from ledger.event_store.connections import CONNECT_TIMEOUT_S, UNAVAILABLE_ERRORS, open_connection
from ledger.event_store.identity import SameLedger
from ledger.event_store.keys import command_key
from ledger.event_store.protocol import StoreUnavailableError
from ledger.event_store.rows import recorded_event
from ledger.sql_files import sql

CONNECTIONS_MAX: Final = 4
LOOKUP_TIMEOUT_S: Final = 5.0
"""Of one statement, and of waiting for a free connection."""


class RecordUnavailable(Exception):  # noqa: N818  (a word of the ledger's refusals, see producers.errors)
    """Postgres did not answer."""


class Place(NamedTuple):
    """Where a command was published: its partition and offset in the app's command topic."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Quarantined:
    """The message at the place could not be read as a command. `status` is waiting, retried or discarded."""

    reason: str
    detail: str
    status: str
    retried_as: UUID | None = None
    """The command id under which an operator published it again; None also where that was not noted."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the record says. `next_offset`: the next offset of the place's partition that will be consumed; None when
    nothing of it has been."""

    event: RecordedEvent | None = None
    quarantined: Quarantined | None = None
    next_offset: int | None = None


class CommandLookup(Protocol):
    """Looks a command up in the record."""

    async def find(self, app: str, owner_id: str, command_id: UUID, place: Place | None) -> Found:
        """What is known of it. Raises RecordUnavailable."""


class PostgresCommandLookup:
    """`CommandLookup` on a few connections of its own that may only read; opened when needed."""

    def __init__(self, database_url: str, application: str = "ledger command lookup") -> None:
        """No I/O. `database_url` is of a user who may act as `ledger_reader`."""
        self._database_url = database_url
        self._application = application
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        """Make the pool; connects to nothing yet, so that a service can start while Postgres is away."""
        self._pool = await asyncpg.create_pool(
            self._database_url,
            min_size=0,
            max_size=CONNECTIONS_MAX,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=LOOKUP_TIMEOUT_S,
            server_settings={"role": "ledger_reader", "application_name": self._application},
            connect=open_connection,
            init=SameLedger().require,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections at once."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def find(self, app: str, owner_id: str, command_id: UUID, place: Place | None) -> Found:
        """See CommandLookup."""
        if self._pool is None:
            raise RecordUnavailable("the lookup is not open: use it inside `async with`")
        key = command_key(app, owner_id, command_id)
        partition, offset = place or (None, None)
        try:
            async with self._pool.acquire(timeout=LOOKUP_TIMEOUT_S) as connection:
                # One statement: between two, the command could be decided and seem to be nowhere.
                row = await connection.fetchrow(
                    sql("producers", "find_command"), key.command_id, key.scope, app, partition, offset
                )
                assert row is not None  # the statement joins to one row of its own
                event = await self._event(connection, row)
        except StoreUnavailableError as error:
            raise RecordUnavailable(str(error)) from error
        except UNAVAILABLE_ERRORS as error:
            raise RecordUnavailable(f"Postgres: {type(error).__name__}: {error}") from error
        if row["quarantine_reason"] is None:
            return Found(event, None, row["next_offset"])
        quarantined = Quarantined(
            row["quarantine_reason"],
            row["quarantine_detail"],
            row["quarantine_status"],
            row["quarantine_retried_as"],
        )
        return Found(event, quarantined, row["next_offset"])

    async def _event(self, connection: Any, row: Any) -> RecordedEvent | None:
        if row["partition"] is None:
            return None
        # Exactly one: a key and its event are recorded in one transaction.
        [found] = await connection.fetch(
            sql("ledger.event_store", "read_events_at"), [row["partition"]], [row["sequence"]]
        )
        return recorded_event(found, found["prev_hash"] or bytes(32))
