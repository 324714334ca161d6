"""Makes versions of read models from the record: the first one (`install`), and another one in its place (`rebuild`).

A version is filled by set-based SQL in chunks, each with its checkpoints, then swapped in while the workers of the old
one wait for a moment. Reads go on all the time: they name the version they read, and ask again when it is gone. No
worker is needed; those that run find their version gone, and go on with the new one.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import asyncpg
import structlog

from ledger.domain.chain import GENESIS
from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from ledger.event_store.identity import read_identity
from ledger.sql_files import sql
from projections.blockers import ending_blockers
from projections.read_model import ReadModel

FILL_CHUNK_EVENTS: Final = 500_000
"""Events filled in by one transaction."""

SWAP_LAG_EVENTS_MAX: Final = 20_000
"""The swap begins when the new version lags no more than this: the workers wait while the rest is filled in."""

CATCH_UP_ROUNDS_MAX: Final = 50
SWAP_ATTEMPTS_MAX: Final = 5
DROP_ATTEMPTS_MAX: Final = 20
DROP_PAUSE_S: Final = 0.1
FILL_TIMEOUT_S: Final = 1800.0
_PACKAGE: Final = "projections"
_OWNER: Final = "ledger_owner"
_LOCK: Final = 7_346_251_907
"""Any number that nothing else in this database locks."""
log: Final = structlog.get_logger("ledger.projections")


class RebuildError(Exception):
    """A version could not be made; the active one is as it was."""


@dataclass(frozen=True, slots=True)
class FillProgress:
    """How far a version has been filled: `filled` of `total` events of the record, after `elapsed_s` seconds."""

    read_model: str
    version: int
    filled: int
    total: int
    elapsed_s: float


OnProgress = Callable[[FillProgress], None]


async def install(database_url: str, read_models: Collection[ReadModel], on_progress: OnProgress | None = None) -> None:
    """Make the first version of every read model that has none: at the first start, and when one is added.

    The database is migrated and its ledger initialised. Does nothing where all are there; processes that start together
    wait for the one that does it.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    async with _owner(database_url) as connection:
        installed = {row["name"] for row in await connection.fetch(sql(_PACKAGE, "read_active_versions"))}
        if all(model.name in installed for model in read_models):
            return
        await connection.execute(sql(_PACKAGE, "lock_versions"), _LOCK, timeout=FILL_TIMEOUT_S)
        for model in read_models:
            build = _Build(database_url, connection, model, on_progress)
            if await build.active_version() is None:
                await build.make()


async def rebuild(
    database_url: str,
    read_model: ReadModel,
    on_progress: OnProgress | None = None,
    *,
    after_restore: bool = False,
) -> FillProgress:
    """Make the read model anew from the record, beside the active version, and put it in that one's place.

    Args:
        database_url: of a role that may act as `ledger_owner`.
        read_model: what to make.
        on_progress: called after every chunk.
        after_restore: the ledger was restored from an older copy, so the read model may be ahead of the record, and
            goes back with it. Otherwise a version never replaces one that is ahead of it.

    Raises:
        RebuildError: another rebuild is under way, the read model was never installed, or the swap failed.
        OSError, asyncpg.PostgresError: Postgres is away or refuses; the active version is as it was.
    """
    async with _owner(database_url) as connection:
        if not await connection.fetchval(sql(_PACKAGE, "try_lock_versions"), _LOCK):
            raise RebuildError("another rebuild is under way in this database; wait for it, or stop it")
        build = _Build(database_url, connection, read_model, on_progress)
        if await build.active_version() is None:
            raise RebuildError(f"{read_model.name} is not installed in this database; run `ledger migrate`")
        return await build.make(may_go_back=after_restore)


class _Build:
    """One version in the making."""

    def __init__(
        self, database_url: str, connection: asyncpg.Connection, model: ReadModel, on_progress: OnProgress | None
    ) -> None:
        self._url = database_url
        self._connection = connection
        self._model = model
        self._on_progress = on_progress
        self._version = 0
        self._filled: dict[int, int] = {}
        self._began = time.monotonic()

    async def active_version(self) -> int | None:
        """The version that is read now."""
        rows = await self._connection.fetch(sql(_PACKAGE, "read_active_versions"))
        return {row["name"]: row["active_version"] for row in rows}.get(self._model.name)

    async def make(self, *, may_go_back: bool = False) -> FillProgress:
        """Fill a new version, swap it in, drop the old one."""
        active = await self.active_version()
        await self._drop_leftovers(active)
        await self._create(await self._unused_version())
        await self._fill_to_head()
        for statement in self._model.index:
            await self._connection.execute(self._model.sql(statement, self._version), timeout=FILL_TIMEOUT_S)
        for _ in range(CATCH_UP_ROUNDS_MAX):
            if await self._fill_to_head() <= SWAP_LAG_EVENTS_MAX:
                break
        if active is None:
            async with self._connection.transaction():
                await self._fill_to_head()
                await self._connection.execute(sql(_PACKAGE, "activate_first_version"), self._model.name, self._version)
        else:
            await self._swap(active, may_go_back)
            await self._drop(active)
        return self._progress(sum(self._filled.values()))

    async def _drop_leftovers(self, active: int | None) -> None:
        for version in await self._versions():
            if version != active:
                await self._drop(version)

    async def _unused_version(self) -> int:
        return max(await self._versions(), default=0) + 1

    async def _versions(self) -> list[int]:
        rows = await self._connection.fetch(sql(_PACKAGE, "read_versions"), self._model.name)
        return sorted(row["version"] for row in rows)

    async def _create(self, version: int) -> None:
        self._version = version
        partitions = (await read_identity(self._connection)).partitions
        async with self._connection.transaction():
            for statement in self._model.create:
                await self._connection.execute(self._model.sql(statement, version))
            await self._connection.execute(
                sql(_PACKAGE, "insert_checkpoints"), self._model.name, version, partitions, GENESIS
            )
        self._filled = dict.fromkeys(range(partitions), 0)

    async def _drop(self, version: int) -> None:
        """Remove a version that is not active any more; what long reads hold is left for the next rebuild."""
        for _ in range(DROP_ATTEMPTS_MAX):
            try:
                # First the checkpoints: a worker that feeds this version holds them until its batch is finished, and
                # finds them gone at the next. In the order in which it locks, or the two would wait for each other.
                async with self._connection.transaction():
                    await self._connection.execute(sql(_PACKAGE, "wait_briefly_for_locks"))
                    await self._connection.execute(sql(_PACKAGE, "delete_checkpoints"), self._model.name, version)
                    for statement in self._model.drop:
                        await self._connection.execute(self._model.sql(statement, version))
            except asyncpg.LockNotAvailableError:
                await asyncio.sleep(DROP_PAUSE_S)
            else:
                return
        log.warning(
            "old tables are still read and stay until the next rebuild", read_model=self._model.name, version=version
        )

    async def _fill_to_head(self) -> int:
        """Fill in what the record holds now; how many events that was."""
        heads = {row["partition"]: row["sequence"] for row in await self._connection.fetch(sql(_PACKAGE, "read_heads"))}
        total = sum(heads.values())
        before = sum(self._filled.values())
        for partition in self._filled:
            while self._filled[partition] < heads[partition]:
                last = min(self._filled[partition] + FILL_CHUNK_EVENTS, heads[partition])
                await self._fill(partition, last)
                if self._on_progress is not None:
                    self._on_progress(self._progress(total))
        return sum(self._filled.values()) - before

    async def _fill(self, partition: int, last: int) -> None:
        async with self._connection.transaction():
            for statement in self._model.fill:
                await self._connection.execute(
                    self._model.sql(statement, self._version),
                    partition,
                    self._filled[partition] + 1,
                    last,
                    timeout=FILL_TIMEOUT_S,
                )
            status = await self._connection.execute(
                sql(_PACKAGE, "fill_checkpoint"), self._model.name, self._version, partition, last
            )
            if status != "UPDATE 1":
                raise RebuildError(f"the record lacks {partition}:{last}, or this build was dropped by another one")
        self._filled[partition] = last

    async def _swap(self, old: int, may_go_back: bool) -> None:
        for attempt in range(1, SWAP_ATTEMPTS_MAX + 1):
            try:
                await self._try_swap(old, may_go_back)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError) as error:
                if attempt == SWAP_ATTEMPTS_MAX:
                    raise RebuildError(f"{self._model.name} was busy {attempt} times: {error}") from error
            else:
                return

    async def _try_swap(self, old: int, may_go_back: bool) -> None:
        filled_before = dict(self._filled)
        try:
            async with self._connection.transaction():
                # A worker that is stopped in the middle of a batch would hold its checkpoints without end.
                async with ending_blockers(self._url, self._connection, "ledger rebuild"):
                    await self._connection.fetch(sql(_PACKAGE, "lock_checkpoints"), self._model.name, old)
                # The record is never behind a read model: with this, the new version is not behind the old one.
                await self._fill_to_head()
                await self._connection.execute(
                    sql(_PACKAGE, "carry_offsets"), self._model.name, self._version, old, may_go_back
                )
                status = await self._connection.execute(
                    sql(_PACKAGE, "swap_version"), self._model.name, self._version, old, may_go_back
                )
                if status != "UPDATE 1":
                    raise RebuildError(
                        f"version {old} of {self._model.name} is ahead of the record itself: the ledger was probably "
                        "restored from an older copy. Run `ledger verify`; when the record is right, rebuild with "
                        "--after-restore"
                    )
                await self._connection.execute(sql(_PACKAGE, "delete_checkpoints"), self._model.name, old)
        except BaseException:
            self._filled = filled_before
            raise

    def _progress(self, total: int) -> FillProgress:
        filled = sum(self._filled.values())
        return FillProgress(self._model.name, self._version, filled, total, time.monotonic() - self._began)


@asynccontextmanager
async def _owner(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connect(database_url, role=_OWNER, application="ledger rebuild")
    try:
        yield connection
    finally:
        await _close(connection)


async def _close(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=5)
    except (*UNAVAILABLE_ERRORS, asyncpg.PostgresError):
        connection.terminate()
