"""`ProjectionStore` on Postgres: one connection, used by one task."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from ledger.domain.event import RecordedEvent
from ledger.event_store.connections import PLAN_ONCE, UNAVAILABLE_ERRORS, connect
from ledger.event_store.identity import SameLedger
from ledger.event_store.protocol import StoreUnavailableError
from ledger.event_store.rows import chained_events
from ledger.sql_files import sql
from projections.blockers import PATIENCE_S, RESCUES_MAX, ending_blockers
from projections.feed import Feed, FeedKey, unrecorded
from projections.read_model import ReadModel, ReadModelMismatchError
from projections.store import Advance, RecordMarks

_PACKAGE: Final = "projections"
_PROJECTOR: Final = "ledger_projector"


class PostgresProjectionStore:
    """See ProjectionStore. Acts as `ledger_projector`."""

    def __init__(
        self, database_url: str, read_models: Collection[ReadModel], application: str = "projection worker"
    ) -> None:
        self._url = database_url
        self._application = application
        self._read_models = {model.name: model for model in read_models}
        self._connection: asyncpg.Connection | None = None
        self._same_ledger = SameLedger()

    async def active_versions(self) -> Mapping[str, int]:
        """See ProjectionStore."""
        async with self._connected() as connection:
            rows = await connection.fetch(sql(_PACKAGE, "read_active_versions"))
        return {row["name"]: row["active_version"] for row in rows}

    async def claim(self, keys: Mapping[FeedKey, int | None], holder: str) -> Sequence[Feed]:
        """See ProjectionStore."""
        (partition,) = {key.partition for key in keys}
        async with (
            self._connected() as connection,
            ending_blockers(self._url, connection, self._application),
            connection.transaction(),
        ):
            await connection.execute(sql(_PACKAGE, "claim_durably"))
            rows = await connection.fetch(
                sql(_PACKAGE, "claim_checkpoints"),
                partition,
                holder,
                [key.read_model for key in keys],
                [key.version for key in keys],
                list(keys.values()),
                timeout=PATIENCE_S * RESCUES_MAX,
            )
        return [
            Feed(
                FeedKey(row["read_model"], row["version"], partition),
                row["epoch"],
                row["sequence"],
                row["hash"].hex(),
                row["next_offset"],
            )
            for row in rows
        ]

    async def lost(self, epochs: Mapping[FeedKey, int]) -> frozenset[FeedKey]:
        """See ProjectionStore."""
        async with self._connected() as connection:
            rows = await connection.fetch(
                sql(_PACKAGE, "read_lost"),
                [key.read_model for key in epochs],
                [key.version for key in epochs],
                [key.partition for key in epochs],
                list(epochs.values()),
            )
        return frozenset(FeedKey(*row) for row in rows)

    async def advance(self, batch: Sequence[Advance]) -> frozenset[FeedKey]:
        """See ProjectionStore."""
        async with self._connected() as connection:
            transaction = connection.transaction()
            await transaction.start()
            rows = await connection.fetch(
                sql(_PACKAGE, "advance_checkpoints"),
                [advance.key.read_model for advance in batch],
                [advance.key.version for advance in batch],
                [advance.key.partition for advance in batch],
                [advance.epoch for advance in batch],
                [advance.sequence for advance in batch],
                [bytes.fromhex(advance.hash) for advance in batch],
                [advance.next_offset for advance in batch],
            )
            if len(rows) != len(batch):
                await transaction.rollback()
                held = {FeedKey(*row) for row in rows}
                return frozenset(advance.key for advance in batch if advance.key not in held)
            try:
                await self._require_recorded(connection, batch)
                await self._write(connection, batch)
            except ReadModelMismatchError:
                await transaction.rollback()
                raise
            except UNAVAILABLE_ERRORS:
                raise
            except asyncpg.PostgresError as error:
                # Whatever Postgres has against these rows, it will have again: the worker finds out whose they are.
                await transaction.rollback()
                raise ReadModelMismatchError(f"Postgres refuses the rows: {type(error).__name__}: {error}") from error
            await transaction.commit()
        return frozenset()

    async def read_events(self, partition: int, after: int, limit: int) -> Sequence[RecordedEvent]:
        """See ProjectionStore."""
        async with self._connected() as connection:
            rows = await connection.fetch(sql("ledger.event_store", "read_events"), partition, after, limit + 1)
        return chained_events(rows, after)[:limit]

    async def record_marks(self, partition: int, sequences: Collection[int]) -> RecordMarks:
        """See ProjectionStore."""
        # Sequence 0 is never recorded: its row brings the head when nothing else is asked for.
        async with self._connected() as connection:
            rows = await connection.fetch(sql(_PACKAGE, "read_record_marks"), partition, [0, *sequences])
        return RecordMarks(
            rows[0]["head_sequence"], {row["sequence"]: row["hash"].hex() for row in rows if row["hash"] is not None}
        )

    async def note_halted(self, key: FeedKey, epoch: int, because: str) -> None:
        """See ProjectionStore."""
        async with self._connected() as connection:
            await connection.execute(sql(_PACKAGE, "note_halted"), *key, epoch, because)

    async def release(self, epochs: Mapping[FeedKey, int]) -> None:
        """See ProjectionStore."""
        async with self._connected() as connection:
            await connection.execute(
                sql(_PACKAGE, "release_checkpoints"),
                [key.read_model for key in epochs],
                [key.version for key in epochs],
                [key.partition for key in epochs],
                list(epochs.values()),
            )

    async def stop(self) -> None:
        """See ProjectionStore."""
        self._drop()

    @staticmethod
    async def _require_recorded(connection: asyncpg.Connection, batch: Sequence[Advance]) -> None:
        last = {(one.key.partition, one.sequence, bytes.fromhex(one.hash)) for one in batch if one.events}
        if not last:
            return
        partitions, sequences, hashes = zip(*last, strict=True)
        row = await connection.fetchrow(sql(_PACKAGE, "unrecorded_events"), partitions, sequences, hashes)
        if row is not None:
            raise ReadModelMismatchError(unrecorded(row["partition"], row["sequence"], row["head_sequence"]))

    async def _write(self, connection: asyncpg.Connection, batch: Sequence[Advance]) -> None:
        by_version: dict[tuple[str, int], list[RecordedEvent]] = {}
        for advance in batch:
            by_version.setdefault((advance.key.read_model, advance.key.version), []).extend(advance.events)
        for (name, version), events in by_version.items():
            if events:
                await self._read_models[name].write(connection, version, events)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[asyncpg.Connection]:
        try:
            if self._connection is not None and self._connection.is_closed():
                # What was committed last may be lost with it (nobody waited for the disk), or the server be another
                # one: whoever goes on with what is in memory must learn of it.
                raise ConnectionResetError("the connection was lost")
            if self._connection is None:
                self._connection = await connect(
                    self._url, role=_PROJECTOR, application=self._application, settings=PLAN_ONCE
                )
                await self._same_ledger.require(self._connection)
                await self._connection.execute(sql(_PACKAGE, "commit_without_waiting"))
            yield self._connection
        except UNAVAILABLE_ERRORS as error:
            # A connection that failed once is never used again: what state it is in is not known.
            self._drop()
            raise StoreUnavailableError(f"Postgres: {type(error).__name__}: {error}") from error
        except ReadModelMismatchError:
            raise  # after a rollback
        except BaseException:
            # Whatever happened, and a cancellation too: a transaction may be open on this connection.
            self._drop()
            raise

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
