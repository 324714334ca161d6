"""What one append writes, inside its transaction: by COPY, or, when it is small, by one statement.

COPY costs least for each row. Each statement costs a trip to the server and back, and a small batch is little else: in
one statement it costs a third of the time (docs/benchmarks.md).
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from ledger.event_store.protocol import (
    EVENT_COLUMNS,
    AppendBatch,
    Appended,
    AppendResult,
    Fenced,
    OffsetAdvance,
    QuarantinedRecord,
    RecordMismatchError,
)
from ledger.sql_files import sql

IN_ONE_STATEMENT_MAX: Final = 150
"""Events of the largest batch that is written in one statement."""

_PACKAGE: Final = "ledger.event_store"
_COMMAND_KEY_COLUMNS: Final = ("command_id", "scope", "partition", "sequence")
_NONCE_KEY_COLUMNS: Final = ("key", "partition", "sequence")
_HEADS: Final = "heads at the sequences that this process knows"
_OFFSETS: Final = "command offsets at the values that this process knows"
_FIRST_OFFSETS: Final = "command offsets that did not exist"
_ACCOUNTS: Final = "accounts whose version rises"


async def append_in(connection: asyncpg.Connection, batch: AppendBatch, in_one_statement_max: int) -> AppendResult:
    """Write the batch into the transaction that is open; the caller commits when the answer is Appended.

    Raises:
        RecordMismatchError: the record is not as this process knows it.
        asyncpg.PostgresError: what Postgres has against it.
    """
    moved = sum(head.sequence - head.sequence_before for head in batch.heads)
    if not moved == len(batch.events) == len(batch.command_keys):
        raise RecordMismatchError(
            f"the heads move by {moved}, with {len(batch.events)} events and {len(batch.command_keys)} command keys"
        )
    if len(batch.events) <= in_one_statement_max and not batch.quarantine:
        return await _append_at_once(connection, batch)
    return await _append_by_copy(connection, batch)


async def _append_at_once(connection: asyncpg.Connection, batch: AppendBatch) -> AppendResult:
    row = await connection.fetchrow(
        sql(_PACKAGE, "append_at_once"),
        *_fence_arrays(batch),
        *_head_arrays(batch)[1:],
        [advance.app for advance in batch.offsets],
        [advance.partition for advance in batch.offsets],
        [advance.expected for advance in batch.offsets],
        *_mark_arrays(batch.offsets),
        *_columns(batch.events, len(EVENT_COLUMNS)),
        *_columns(batch.command_keys, len(_COMMAND_KEY_COLUMNS)),
        *_columns(batch.nonce_keys, len(_NONCE_KEY_COLUMNS)),
        *_account_arrays(batch),
    )
    assert row is not None
    held = row["held"] or ()
    if len(held) != len(batch.heads):
        return _fenced(batch, held)
    first = sum(advance.expected is None for advance in batch.offsets)
    _expect(row["heads"], len(batch.heads), _HEADS)
    _expect(row["moved"], len(batch.offsets) - first, _OFFSETS)
    _expect(row["begun"], first, _FIRST_OFFSETS)
    _expect(row["events"], len(batch.events), "rows of event")
    _expect(row["command_keys"], len(batch.command_keys), "rows of command_key")
    _expect(row["nonce_keys"], len(batch.nonce_keys), "rows of nonce_key")
    _expect(row["accounts"], len(batch.accounts), _ACCOUNTS)
    return Appended(row["clock"])


async def _append_by_copy(connection: asyncpg.Connection, batch: AppendBatch) -> AppendResult:
    rows = await connection.fetch(sql(_PACKAGE, "fence"), *_fence_arrays(batch))
    if len(rows) != len(batch.heads):
        return _fenced(batch, [row["partition"] for row in rows])
    status = await connection.execute(sql(_PACKAGE, "advance_heads"), *_head_arrays(batch))
    _expect(_rows(status), len(batch.heads), _HEADS)
    await _advance_offsets(connection, batch)
    await _copy(connection, "event", EVENT_COLUMNS, batch.events)
    await _copy(connection, "command_key", _COMMAND_KEY_COLUMNS, batch.command_keys)
    await _copy(connection, "nonce_key", _NONCE_KEY_COLUMNS, batch.nonce_keys)
    if batch.accounts:
        status = await connection.execute(sql(_PACKAGE, "upsert_accounts"), *_account_arrays(batch))
        _expect(_rows(status), len(batch.accounts), _ACCOUNTS)
    if batch.quarantine:
        columns = (*QuarantinedRecord._fields, "status")
        await _copy(connection, "quarantine", columns, [(*record, "waiting") for record in batch.quarantine])
    return Appended(rows[0]["clock"])


async def _advance_offsets(connection: asyncpg.Connection, batch: AppendBatch) -> None:
    known = [advance for advance in batch.offsets if advance.expected is not None]
    first = [advance for advance in batch.offsets if advance.expected is None]
    if known:
        status = await connection.execute(
            sql(_PACKAGE, "advance_offsets"),
            [advance.app for advance in known],
            [advance.partition for advance in known],
            [advance.expected for advance in known],
            *_mark_arrays(known),
        )
        _expect(_rows(status), len(known), _OFFSETS)
    if first:
        status = await connection.execute(
            sql(_PACKAGE, "begin_offsets"),
            [advance.app for advance in first],
            [advance.partition for advance in first],
            *_mark_arrays(first),
        )
        _expect(_rows(status), len(first), _FIRST_OFFSETS)


def _fence_arrays(batch: AppendBatch) -> tuple[list[Any], ...]:
    return [head.partition for head in batch.heads], [head.epoch for head in batch.heads]


def _head_arrays(batch: AppendBatch) -> tuple[list[Any], ...]:
    heads = batch.heads
    return (
        [head.partition for head in heads],
        [head.sequence_before for head in heads],
        [head.sequence for head in heads],
        [head.hash for head in heads],
        [head.occurred_at for head in heads],
        [head.published_sequence for head in heads],
        [head.consumed for head in heads],
    )


def _mark_arrays(offsets: Sequence[OffsetAdvance]) -> tuple[list[Any], ...]:
    return (
        [advance.mark.next_offset for advance in offsets],
        [advance.mark.last_offset for advance in offsets],
        [advance.mark.last_timestamp_ms for advance in offsets],
        [advance.mark.last_digest for advance in offsets],
    )


def _account_arrays(batch: AppendBatch) -> tuple[list[Any], ...]:
    return (
        [key.owner_id for key in batch.accounts],
        [key.credit_type for key in batch.accounts],
        [account.balance for account in batch.accounts.values()],
        [account.version for account in batch.accounts.values()],
    )


def _columns(rows: Sequence[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


async def _copy(
    connection: asyncpg.Connection, table: str, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    if rows:
        status = await connection.copy_records_to_table(
            table, schema_name="ledger", columns=list(columns), records=rows
        )
        _expect(_rows(status), len(rows), f"rows of {table}")


def _fenced(batch: AppendBatch, held: Sequence[int]) -> Fenced:
    return Fenced(frozenset(head.partition for head in batch.heads) - frozenset(held))


def _rows(status: str) -> int:
    return int(status.rsplit(" ", 1)[1])


def _expect(found: int, count: int, what: str) -> None:
    if found != count:
        raise RecordMismatchError(
            f"expected {count} {what}, found {found}: the record was changed by something else; run `ledger verify`"
        )
