"""`ledger verify`: reads the whole record in one snapshot and names the first thing that cannot be.

Everything is streamed; in memory are the accounts of one partition at a time. The snapshot is repeatable read and read
only, so the ledger can go on meanwhile (but dead rows stay until the end: do not run it all day long).
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import asyncpg

from ledger.event_store.identity import read_identity
from ledger.event_store.protocol import AccountKey, Identity
from ledger.event_store.verification_accounts import AccountAuditor
from ledger.event_store.verification_checks import Check, Violation
from ledger.event_store.verification_keys import KeyAuditor
from ledger.event_store.verification_partition import Folded, Head, LogGeneration, PartitionAuditor
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S, RowStream
from ledger.sql_files import sql

_PACKAGE = "ledger.event_store"

Progress = Callable[[int, int], None]
"""Takes how many events were checked, and of how many."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found in order."""

    identity: Identity
    events: int
    accounts: int
    heads: Mapping[int, Head]


class FoldWitness(Protocol):
    """Compares something with the fold of a partition's events up to a checkpoint of its own."""

    def checkpoint(self, partition: int) -> int | None:
        """The sequence at which it wants to see the accounts; None: never."""

    async def see(self, partition: int, accounts: Mapping[AccountKey, Folded]) -> None:
        """The accounts after the event at the checkpoint (at 0: none). Raises Violation."""

    async def finish(self) -> None:
        """All partitions were shown. Raises Violation."""


async def verify_record(
    connection: asyncpg.Connection, progress: Progress, witnesses: Collection[FoldWitness] = ()
) -> Verified:
    """Check the record in the connection's open transaction, which must be of repeatable read.

    Raises:
        Violation: the first thing that is wrong.
        RecordMismatchError: there is no ledger in this database.
    """
    identity = await read_identity(connection)
    heads = await read_heads(connection)
    if sorted(heads) != list(range(identity.partitions)):
        raise Violation(
            Check.SEQUENCE, "the heads", f"there are {sorted(heads)}, the ledger has {identity.partitions} partitions"
        )
    keys = KeyAuditor(connection)
    accounts = AccountAuditor(connection)
    events = _EventsByPartition(RowStream(connection, sql(_PACKAGE, "verify_events")))
    total = sum(head.sequence for head in heads.values())
    done = 0
    progress(done, total)
    for partition in range(identity.partitions):
        auditor = PartitionAuditor(heads[partition], identity.partitions)
        waiting = [(witness.checkpoint(partition), witness) for witness in witnesses]
        for _, witness in [pair for pair in waiting if pair[0] == 0]:
            await witness.see(partition, {})
        while rows := await events.of(partition):
            for row in rows:
                auditor.see(row)
                await keys.see(row)
                for _, witness in [pair for pair in waiting if pair[0] == auditor.sequence]:
                    await witness.see(partition, auditor.accounts)
            done += len(rows)
            progress(done, total)
        auditor.finish()
        for sequence, _ in waiting:
            if sequence is not None and sequence > auditor.sequence:
                raise Violation(
                    Check.READ_MODEL,
                    f"{partition}:{auditor.sequence + 1}",
                    f"a checkpoint is at {partition}:{sequence}, behind the head",
                )
        await accounts.see(auditor.accounts)
    await events.nothing_left()
    await keys.finish()
    await accounts.finish()
    for witness in witnesses:
        await witness.finish()
    return Verified(identity, done, accounts.count, heads)


async def read_heads(connection: asyncpg.Connection) -> dict[int, Head]:
    """The heads of all partitions, with the offsets of their apps and of their quarantine."""
    logs = await _read_generations(connection)
    for row in await connection.fetch(sql(_PACKAGE, "verify_marks"), timeout=FETCH_TIMEOUT_S):
        if row["last_offset"] >= row["next_offset"]:
            raise Violation(
                Check.CONSUMED,
                f"{row['app']} on partition {row['partition']}",
                f"the last consumed offset {row['last_offset']} is not below the next one, {row['next_offset']}",
            )
        begun = logs.setdefault(row["partition"], {}).setdefault(row["app"], [LogGeneration()])
        if len(begun) != row["generation"]:
            raise Violation(
                Check.CONSUMED,
                f"{row['app']} on partition {row['partition']}",
                f"generation {row['generation']} of its log is consumed, but {len(begun)} were begun",
            )
        begun[-1].ends_at = row["next_offset"]
    for row in await connection.fetch(sql(_PACKAGE, "verify_quarantine"), timeout=FETCH_TIMEOUT_S):
        partition, app, offset = row["partition"], row["app"], row["command_offset"]
        begun = logs.get(partition, {}).get(app, [])
        number = row["generation"]
        if not 1 <= number <= len(begun) or offset >= begun[number - 1].ends_at:
            raise Violation(
                Check.CONSUMED, f"{app} on partition {partition}", f"the quarantined offset {offset} was never consumed"
            )
        begun[number - 1].quarantined.add(offset)
    return {
        row["partition"]: Head(
            row["partition"],
            row["epoch"],
            row["sequence"],
            row["hash"],
            row["occurred_at"],
            row["published_sequence"],
            row["consumed"],
            logs.get(row["partition"], {}),
        )
        for row in await connection.fetch(sql(_PACKAGE, "verify_heads"), timeout=FETCH_TIMEOUT_S)
    }


async def _read_generations(connection: asyncpg.Connection) -> dict[int, dict[str, list[LogGeneration]]]:
    """By partition and app, the generations of its log that have ended, and an empty one that has not."""
    logs: dict[int, dict[str, list[LogGeneration]]] = {}
    for row in await connection.fetch(sql(_PACKAGE, "verify_generations"), timeout=FETCH_TIMEOUT_S):
        begun = logs.setdefault(row["partition"], {}).setdefault(row["app"], [LogGeneration()])
        if row["generation"] != len(begun) + 1 or row["first_sequence"] < begun[-1].first_sequence:
            raise Violation(
                Check.CONSUMED,
                f"{row['app']} on partition {row['partition']}",
                f"generation {row['generation']} of its log does not follow the {len(begun)} before it",
            )
        begun[-1].ends_at = row["ended_offset"]
        begun.append(LogGeneration(row["first_sequence"]))
    return logs


class _EventsByPartition:
    """Cuts the stream of all events where the partition changes."""

    def __init__(self, stream: RowStream) -> None:
        self._stream = stream
        self._rows: list[Any] = []

    async def of(self, partition: int) -> list[Any]:
        """The next events of this partition; empty when it has no more."""
        if not self._rows:
            self._rows = list(await self._stream.batch())
        end = next((index for index, row in enumerate(self._rows) if row["partition"] != partition), len(self._rows))
        taken, self._rows = self._rows[:end], self._rows[end:]
        if not taken and self._rows and self._rows[0]["partition"] < partition:
            raise _stray(self._rows[0])
        return taken

    async def nothing_left(self) -> None:
        """After the last partition. Raises Violation."""
        rows = self._rows or await self._stream.batch()
        if rows:
            raise _stray(rows[0])


def _stray(row: Any) -> Violation:
    return Violation(
        Check.SEQUENCE, f"{row['partition']}:{row['sequence']}", "the event lies on a partition that does not exist"
    )
