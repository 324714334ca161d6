"""A ledger with a history: filled fast, and as the ledger itself would have filled it."""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final

import asyncpg
import msgspec

from benchmarks.commands import owner_id
from benchmarks.fresh_ledger import LONG_STATEMENT_LIMIT_S, FreshLedger
from benchmarks.history_worker import Work
from benchmarks.ledger_process import MeasurementError
from benchmarks.sizes import PARTITIONS
from ledger.event_store.verification import read_heads
from ledger.event_store.verification_checks import Violation
from ledger.event_store.verification_partition import PartitionAuditor
from ledger.messages.partitioning import partition_of
from ledger.sql_files import sql
from projections.registry import READ_MODELS
from projections.versions import FillProgress, rebuild

TABLES: Final = ("ledger.event", "ledger.command_key", "ledger.nonce_key")
"""What grows with every event: filled without keys and indexes, which are made at the end."""

ROWS_PER_FETCH: Final = 5_000
_PACKAGE: Final = "benchmarks"

Progress = Callable[[str, int, int], None]
"""Takes what is being done, how much of it was, and of how much."""


async def fill_history(ledger: FreshLedger, events: int, owners: int, progress: Progress) -> None:
    """Give a new ledger this history, its read models included; then look at one partition as `ledger verify` does.

    Raises:
        MeasurementError: what was filled in is not a ledger.
    """
    by_partition = await asyncio.to_thread(_owners_by_partition, owners, progress)
    async with _connection(ledger) as connection:
        await _ensure_parts(connection, events // PARTITIONS + 1)
        keys = await connection.fetch(sql(_PACKAGE, "list_keys"), list(TABLES))
        for key in keys:
            await connection.execute(key["remove"])
    await _fill_record(ledger, by_partition, events, progress)
    await _make_keys(ledger, [key["make"] for key in keys], progress)
    for model in READ_MODELS:

        def show(done: FillProgress) -> None:
            progress(f"read model {done.read_model}", done.filled, done.total)

        await rebuild(ledger.database_url, model, show)
    async with _connection(ledger) as connection:
        progress("vacuum", 0, 1)
        await connection.execute(sql(_PACKAGE, "vacuum"), timeout=LONG_STATEMENT_LIMIT_S)
        await connection.execute(sql(_PACKAGE, "checkpoint"), timeout=LONG_STATEMENT_LIMIT_S)
        progress("vacuum", 1, 1)
        await verify_partition(connection, random.randrange(PARTITIONS), progress)


async def verify_partition(connection: asyncpg.Connection, partition: int, progress: Progress) -> None:
    """Check one partition as `ledger verify` checks all: chain, accounts, offsets, head.

    Raises:
        MeasurementError: something is wrong.
    """
    title = f"verify partition {partition}"
    try:
        auditor = PartitionAuditor((await read_heads(connection))[partition], PARTITIONS)
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            rows = connection.cursor(
                sql(_PACKAGE, "read_partition"), partition, prefetch=ROWS_PER_FETCH, timeout=LONG_STATEMENT_LIMIT_S
            )
            async for row in rows:
                auditor.see(row)
                if auditor.sequence % ROWS_PER_FETCH == 0:
                    progress(title, auditor.sequence, auditor.head.sequence)
        auditor.finish()
        progress(title, auditor.sequence, auditor.head.sequence)
    except Violation as violation:
        raise MeasurementError(f"the history is not a ledger's: {violation}") from violation


def _owners_by_partition(owners: int, progress: Progress) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(PARTITIONS)]
    for number in range(owners):
        found[partition_of(owner_id(number).encode(), PARTITIONS)].append(number)
        if number % 10_000 == 0 or number == owners - 1:
            progress("owners", number + 1, owners)
    return found


async def _ensure_parts(connection: asyncpg.Connection, sequence: int) -> None:
    end = 0
    while end <= sequence:
        end = await connection.fetchval(sql(_PACKAGE, "ensure_event_part"), end)


async def _fill_record(ledger: FreshLedger, by_partition: Sequence[list[int]], events: int, progress: Progress) -> None:
    """One worker for each core; on two cores each has every second partition."""
    per_partition = {
        partition: events // PARTITIONS + (partition < events % PARTITIONS) for partition in range(PARTITIONS)
    }
    workers = max(1, min(os.cpu_count() or 1, PARTITIONS))
    ends_at = datetime.now(UTC)
    done = 0

    def count(chunk: int) -> None:
        nonlocal done
        done += chunk
        progress("record", done, events)

    running = []
    for first in range(workers):
        partitions = range(first, PARTITIONS, workers)
        work = Work(
            ledger.database_url,
            {partition: by_partition[partition] for partition in partitions},
            {partition: per_partition[partition] for partition in partitions},
            ends_at,
        )
        running.append(asyncio.create_task(_run_worker(work, count)))
    try:
        await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _run_worker(work: Work, count: Callable[[int], None]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "benchmarks.history_worker"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(msgspec.json.encode(work))
        await process.stdin.drain()
        process.stdin.close()
        async for line in process.stdout:
            count(int(line))
        if await process.wait() != 0:
            raise MeasurementError(f"filling the history ended with {process.returncode}; what it said is above")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _make_keys(ledger: FreshLedger, statements: Sequence[str], progress: Progress) -> None:
    """Side by side: each sorts by itself."""
    made = 0

    async def make(statement: str) -> None:
        nonlocal made
        async with _connection(ledger) as connection:
            await connection.execute(sql(_PACKAGE, "have_memory_to_sort"))
            await connection.execute(statement, timeout=LONG_STATEMENT_LIMIT_S)
        made += 1
        progress("keys and indexes", made, len(statements))

    progress("keys and indexes", 0, len(statements))
    await asyncio.gather(*map(make, statements))


@asynccontextmanager
async def _connection(ledger: FreshLedger) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(ledger.database_url)
    try:
        yield connection
    finally:
        await connection.close()


class PrintedProgress:
    """A line for each thing that takes long, with its rate; no more than one a while, so that a log can be read."""

    def __init__(self, say: Callable[[str], None], every_s: float = 5.0) -> None:
        self._say = say
        self._every_s = every_s
        self._title = ""
        self._began = 0.0
        self._said = 0.0

    def __call__(self, title: str, done: int, total: int) -> None:
        """See Progress."""
        now = time.monotonic()
        if title != self._title:
            self._title, self._began, self._said = title, now, now
        elapsed_s = now - self._began
        if done < total and now - self._said < self._every_s:
            return
        self._said = now
        rate = f", {done / elapsed_s:,.0f}/s" if elapsed_s > 0.1 and total > PARTITIONS else ""
        self._say(f"{title}: {done:,} of {total:,} in {elapsed_s:.0f} s{rate}")
