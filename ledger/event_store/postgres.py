"""The record in Postgres."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID

import asyncpg

from ledger.domain.account import Account
from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.event_store.append import IN_ONE_STATEMENT_MAX, append_in
from ledger.event_store.connections import PLAN_ONCE, UNAVAILABLE_ERRORS, connect
from ledger.event_store.identity import SameLedger, read_identity
from ledger.event_store.keys import CommandKey
from ledger.event_store.protocol import (
    AccountKey,
    Alive,
    AppendBatch,
    Appended,
    AppendResult,
    Claim,
    CommitOutcomeUnknownError,
    ConsumedMark,
    Halt,
    Head,
    Identity,
    KeysFound,
    KeyTaken,
    RecordMismatchError,
    StoreUnavailableError,
)
from ledger.event_store.rows import chained_events, recorded_event
from ledger.sql_files import sql

CLAIM_PATIENCE_S: Final = 1.0
"""How long a claim waits for the locks of an older holder before it ends that holder's connection."""

CLAIM_RESCUES_MAX: Final = 10
_PACKAGE: Final = "ledger.event_store"
_WRITER: Final = "ledger_writer"
_UNIQUE_KEYS: Final = frozenset({"command_key_pkey", "nonce_key_pkey"})


class PostgresEventStore:
    """`EventStore` on two connections: one that claims and appends, one that reads beside it."""

    def __init__(
        self,
        database_url: str,
        application: str = "ledger consumer",
        in_one_statement_max: int = IN_ONE_STATEMENT_MAX,
    ) -> None:
        """`in_one_statement_max`: events of the largest batch that is written in one statement instead of by COPY."""
        self._url = database_url
        self._in_one_statement_max = in_one_statement_max
        self._application = application
        self._connections: dict[str, asyncpg.Connection] = {}
        self._locks = {"write": asyncio.Lock(), "read": asyncio.Lock()}
        self._parts_end = 0
        self._identity: Identity | None = None
        self._same_ledger = SameLedger()

    async def start(self) -> None:
        """Connect. Raises StoreUnavailableError, RecordMismatchError."""
        await self.identity()

    async def stop(self) -> None:
        """Close the connections at once."""
        for purpose in list(self._connections):
            self._drop(purpose)

    async def identity(self) -> Identity:
        """See EventStore. Checked against what this process saw first: a database can be swapped under a ledger."""
        async with self._connection("read") as connection:
            return await self._check_identity(connection)

    async def claim(self, partition: int, holder: str, if_epoch: int | None = None) -> Claim | None:
        """See EventStore."""
        async with self._connection("write") as connection, self._rescue(connection):
            # No transaction around both: the claim must not keep its lock while the marks are read.
            row = await connection.fetchrow(
                self._sql("claim_partition"), partition, holder, if_epoch, timeout=CLAIM_PATIENCE_S * CLAIM_RESCUES_MAX
            )
            if row is None:
                if if_epoch is None:
                    raise RecordMismatchError(f"the record has no partition {partition}; run `ledger migrate`")
                return None
            marks = await connection.fetch(self._sql("read_marks"), partition)
            await self._ensure_parts(connection, row["sequence"])
        return Claim(
            partition=partition,
            epoch=row["epoch"],
            sequence=row["sequence"],
            hash=row["hash"],
            occurred_at=row["occurred_at"],
            published_sequence=row["published_sequence"],
            consumed=row["consumed"],
            marks={
                mark["app"]: ConsumedMark(
                    mark["next_offset"], mark["last_offset"], mark["last_timestamp_ms"], mark["last_digest"]
                )
                for mark in marks
            },
            clock=row["clock"],
            same_position_as_last_claim=row["same_position_as_last_claim"],
            trying=row["trying"],
            trying_claims=row["trying_claims"],
            generations={mark["app"]: mark["generation"] for mark in marks},
        )

    async def append(self, batch: AppendBatch) -> AppendResult:
        """See EventStore."""
        async with self._connection("write") as connection:
            top = max((head.sequence for head in batch.heads), default=0)
            if top >= self._parts_end:
                await self._ensure_parts(connection, top)
            transaction = connection.transaction()
            await transaction.start()
            try:
                result = await append_in(connection, batch, self._in_one_statement_max)
            except asyncpg.UniqueViolationError as error:
                await transaction.rollback()
                if error.constraint_name in _UNIQUE_KEYS:
                    return KeyTaken()
                raise RecordMismatchError(
                    f"a row of this batch exists already: {error}; run `ledger verify`"
                ) from error
            except asyncpg.CheckViolationError as error:
                await transaction.rollback()
                raise RecordMismatchError(
                    f"a row of this batch is none that the record may hold: {error}; run `ledger verify`"
                ) from error
            except RecordMismatchError:
                await transaction.rollback()
                raise
            if not isinstance(result, Appended):
                await transaction.rollback()
                return result
            try:
                await transaction.commit()
            except UNAVAILABLE_ERRORS as error:
                # A cancellation passes: whoever is cancelled is at its end, and the next holder finds out.
                self._drop("write")
                raise CommitOutcomeUnknownError(f"the connection broke during COMMIT: {error}") from error
            return result

    async def look_up(self, commands: Collection[CommandKey], nonces: Collection[UUID]) -> KeysFound:
        """See EventStore."""
        found_commands: dict[CommandKey, Position] = {}
        found_nonces: dict[UUID, Position] = {}
        async with self._connection("write") as connection:
            if commands:
                for row in await connection.fetch(
                    self._sql("look_up_commands"), [key.command_id for key in commands], [key.scope for key in commands]
                ):
                    key = CommandKey(row["command_id"], row["scope"])
                    found_commands[key] = Position(row["partition"], row["sequence"])
            if nonces:
                for row in await connection.fetch(self._sql("look_up_nonces"), list(nonces)):
                    found_nonces[row["key"]] = Position(row["partition"], row["sequence"])
        return KeysFound(found_commands, found_nonces)

    async def load_accounts(self, keys: Collection[AccountKey]) -> Mapping[AccountKey, Account]:
        """See EventStore."""
        async with self._connection("write") as connection:
            rows = await connection.fetch(
                self._sql("load_accounts"), [key.owner_id for key in keys], [key.credit_type for key in keys]
            )
        return {
            AccountKey(row["owner_id"], row["credit_type"]): Account(row["balance"], row["version"]) for row in rows
        }

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """See EventStore."""
        async with self._connection("read") as connection:
            rows = await connection.fetch(self._sql("read_events"), partition, after, limit + 1)
        return chained_events(rows, after)[:limit]

    async def read_events_at(self, positions: Collection[Position]) -> Mapping[Position, RecordedEvent]:
        """See EventStore."""
        async with self._connection("read") as connection:
            rows = await connection.fetch(
                self._sql("read_events_at"),
                [position.partition for position in positions],
                [position.sequence for position in positions],
            )
        events = (recorded_event(row, row["prev_hash"] or bytes(32)) for row in rows)
        return {event.position: event for event in events}

    async def note_published(self, partition: int, epoch: int, sequence: int) -> None:
        """See EventStore."""
        async with self._connection("read") as connection:
            await connection.execute(self._sql("note_published"), partition, epoch, sequence)

    async def note_alive(self, partitions: Mapping[int, int]) -> Alive:
        """See EventStore."""
        async with self._connection("read") as connection:
            rows = await connection.fetch(self._sql("note_alive"), list(partitions), list(partitions.values()))
        held = frozenset(row["partition"] for row in rows if row["mine"])
        free = frozenset(row["partition"] for row in rows if row["free"])
        return Alive(held, free - held, rows[0]["clock"] if rows else None)

    async def read_heads(self, partitions: Collection[int]) -> Mapping[int, Head]:
        """See EventStore."""
        async with self._connection("write") as connection:
            rows = await connection.fetch(self._sql("read_heads"), list(partitions))
        return {row["partition"]: Head(row["epoch"], row["sequence"], row["hash"]) for row in rows}

    async def note_trying(self, partition: int, epoch: int, trying: str) -> int | None:
        """See EventStore."""
        async with self._connection("write") as connection:
            claims: int | None = await connection.fetchval(self._sql("note_trying"), partition, epoch, trying)
        return claims

    async def note_calm(self, partitions: Mapping[int, int], *, release: bool = False) -> None:
        """See EventStore."""
        async with self._connection("write") as connection:
            await connection.execute(self._sql("note_calm"), list(partitions), list(partitions.values()), release)

    async def note_halted(self, partition: int, epoch: int, halt: Halt) -> None:
        """See EventStore."""
        told = halt.because, halt.record, halt.apps_as_json
        async with self._connection("write") as connection:
            await connection.execute(self._sql("note_halted"), partition, epoch, *told)

    async def _ensure_parts(self, connection: asyncpg.Connection, sequence: int) -> None:
        # The next part is made together with the current one, so that a batch never lies across a missing boundary.
        end = await connection.fetchval(self._sql("ensure_event_part"), sequence)
        await connection.fetchval(self._sql("ensure_event_part"), end)
        self._parts_end = end

    async def _check_identity(self, connection: asyncpg.Connection) -> Identity:
        await self._same_ledger.require(connection)
        if self._identity is None:
            self._identity = await read_identity(connection)
        return self._identity

    @asynccontextmanager
    async def _connection(self, purpose: str) -> AsyncIterator[asyncpg.Connection]:
        async with self._locks[purpose]:
            try:
                connection = self._connections.get(purpose)
                if connection is not None and connection.is_closed():
                    # Said aloud, though a new one might be had: what answers there may not be what answered before.
                    raise ConnectionResetError("the connection was lost")
                if connection is None:
                    connection = await self._connect(purpose)
                    self._connections[purpose] = connection
                    await self._check_identity(connection)
                yield connection
            except UNAVAILABLE_ERRORS as error:
                # A connection that failed once is never used again: what state it is in is not known.
                self._drop(purpose)
                raise StoreUnavailableError(f"Postgres: {type(error).__name__}: {error}") from error
            except (asyncpg.PostgresError, ValueError, TypeError, OverflowError) as error:
                # Not a matter of waiting: a statement, a right or a value is wrong.
                self._drop(purpose)
                raise RecordMismatchError(f"Postgres refuses: {type(error).__name__}: {error}") from error
            except BaseException:
                # Whatever happened, and a cancellation too: a transaction may be open on this connection.
                self._drop(purpose)
                raise

    async def _connect(self, purpose: str) -> asyncpg.Connection:
        try:
            return await connect(
                self._url, role=_WRITER, application=f"{self._application} ({purpose})", settings=PLAN_ONCE
            )
        except asyncpg.PostgresError as error:
            if self._identity is None:
                raise
            # It was let in before: whatever answers now is not what it was, and may be again.
            raise StoreUnavailableError(f"Postgres lets nobody in: {type(error).__name__}: {error}") from error

    @asynccontextmanager
    async def _rescue(self, connection: asyncpg.Connection) -> AsyncIterator[None]:
        """While the body waits for locks, end the connections that hold them, after CLAIM_PATIENCE_S."""
        task = asyncio.create_task(self._terminate_blockers(connection.get_server_pid()))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, *UNAVAILABLE_ERRORS, asyncpg.PostgresError):
                await task

    async def _terminate_blockers(self, waiting_pid: int) -> None:
        for _ in range(CLAIM_RESCUES_MAX):
            await asyncio.sleep(CLAIM_PATIENCE_S)
            # As the user who logged in, not as the writer's role: only the same user may end a connection.
            rescuer = await connect(self._url, role=None, application=f"{self._application} (rescue)")
            try:
                await rescuer.execute(self._sql("terminate_blockers"), waiting_pid)
            finally:
                rescuer.terminate()

    def _drop(self, purpose: str) -> None:
        connection = self._connections.pop(purpose, None)
        if connection is not None:
            connection.terminate()

    @staticmethod
    def _sql(name: str) -> str:
        return sql(_PACKAGE, name)
