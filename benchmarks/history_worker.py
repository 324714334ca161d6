"""`python -m benchmarks.history_worker`: fills some partitions of an empty ledger; started by `benchmarks.history`.

A process of its own, of which one runs on each core. It reads a JSON object (see `Work`) on standard input and writes a
line with a number for every chunk: how many events it has committed.
"""

import asyncio
import gc
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Final

import asyncpg
import msgspec
import uvloop

from benchmarks.history_rows import (
    ACCOUNT_COLUMNS,
    COMMAND_KEY_COLUMNS,
    HISTORY_APP,
    NONCE_KEY_COLUMNS,
    PartitionHistory,
)
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.sql_files import sql

CHUNK_EVENTS: Final = 20_000
"""Larger ones gain nothing."""

_PACKAGE: Final = "benchmarks"


class Work(msgspec.Struct, frozen=True):
    """What one worker is to fill."""

    database_url: str
    owners_by_partition: dict[int, list[int]]
    events_by_partition: dict[int, int]
    ends_at: datetime


async def fill(work: Work) -> None:
    """Fill one partition after the other; each is complete once its head is written."""
    connection = await asyncpg.connect(work.database_url)
    try:
        await connection.execute(sql(_PACKAGE, "commit_without_waiting"))
        for partition, owners in work.owners_by_partition.items():
            history = PartitionHistory(partition, owners, work.events_by_partition[partition], work.ends_at)
            for chunk in history.chunks(CHUNK_EVENTS):
                async with connection.transaction():
                    await _copy(connection, "event", EVENT_COLUMNS, chunk.events)
                    await _copy(connection, "command_key", COMMAND_KEY_COLUMNS, chunk.command_keys)
                    await _copy(connection, "nonce_key", NONCE_KEY_COLUMNS, chunk.nonce_keys)
                sys.stdout.write(f"{len(chunk.events)}\n")
                sys.stdout.flush()
            async with connection.transaction():
                await _copy(connection, "account", ACCOUNT_COLUMNS, history.accounts())
                head = (partition, history.sequence, history.hash, history.occurred_at)
                await connection.execute(sql(_PACKAGE, "set_history_head"), *head)
                await connection.execute(sql(_PACKAGE, "set_history_mark"), HISTORY_APP, partition, history.sequence)
    finally:
        await connection.close()


async def _copy(
    connection: asyncpg.Connection, table: str, columns: tuple[str, ...], rows: Sequence[tuple[object, ...]]
) -> None:
    await connection.copy_records_to_table(table, schema_name="ledger", columns=list(columns), records=rows)


if __name__ == "__main__":
    gc.disable()  # millions of rows that refer to nothing in a circle: looking for some takes as long as making them
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(fill(msgspec.json.decode(sys.stdin.buffer.read(), type=Work)))
