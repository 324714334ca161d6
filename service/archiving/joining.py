"""`ledger verify --archive`, against the record: it goes on where the archive ends, and amounts make the balances."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from ledger.event_store.identity import read_identity
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S
from ledger.sql_files import sql
from service.archiving.checking import ArchiveViolation
from service.archiving.lines import archived_event, what_is_wrong
from service.archiving.manifest import MANIFEST, Manifest

_PACKAGE: Final = "service.archiving"
_RECORD: Final = "ledger.event_store"


@dataclass(frozen=True, slots=True)
class Joined:
    """How an archive goes on in the record."""

    kept: int
    """Events of the record behind the archive."""


async def compare_with_record(connection: asyncpg.Connection, manifest: Manifest) -> Joined:
    """Check that the record goes on where the archive ends, and that all amounts together make the balances.

    In the connection's open transaction, which must be of repeatable read and begun after the archive was read.

    Raises:
        ArchiveViolation: the first thing that is wrong.
        RecordMismatchError: there is no ledger in this database.
    """
    identity = await read_identity(connection)
    if (manifest.ledger_id, manifest.partitions) != (identity.ledger_id, identity.partitions):
        raise ArchiveViolation(
            MANIFEST,
            f"it is of ledger {manifest.ledger_id} with {manifest.partitions} partitions; the database holds ledger "
            f"{identity.ledger_id} with {identity.partitions}",
        )
    heads = await _heads(connection)
    ends = {partition: manifest.last_of(partition) for partition in range(identity.partitions)}
    for partition, (last, last_hash) in ends.items():
        head = heads[partition]
        if last > head["sequence"]:
            raise ArchiveViolation(
                f"{partition}:{last}",
                f"the archive goes up to it, but the record ends at {partition}:{head['sequence']}",
            )
        recorded = await connection.fetchval(sql(_PACKAGE, "event_hash"), partition, last)
        if last and (recorded is None or recorded.hex() != last_hash):
            found = "lacks it" if recorded is None else f"has hash {recorded.hex()}"
            raise ArchiveViolation(f"{partition}:{last}", f"it has hash {last_hash} in the archive, the record {found}")
        for row in await connection.fetch(sql(_RECORD, "read_events"), partition, last + 1, 1):
            following = archived_event(row, bytes.fromhex(last_hash))
            wrong = what_is_wrong(following, partition, last + 1, last_hash)
            if wrong is not None:
                raise ArchiveViolation(f"{partition}:{last + 1}", f"it does not follow the archive: {wrong}")
        if last == head["sequence"] and last_hash != head["hash"].hex():
            raise ArchiveViolation(
                f"the head of partition {partition}", f"it has hash {head['hash'].hex()}, the archive {last_hash}"
            )
    return await _compare_totals(connection, manifest, {partition: last for partition, (last, _) in ends.items()})


async def _compare_totals(connection: asyncpg.Connection, manifest: Manifest, ends: dict[int, int]) -> Joined:
    """Count and sum: what is archived and what the record holds behind it make the heads and the balances."""
    amounts: Counter[str] = Counter()
    counts: Counter[int] = Counter()
    for file in manifest.files:
        amounts.update(file.amounts)
        counts[file.partition] += file.events
    archived = counts.total()
    for row in await connection.fetch(
        sql(_PACKAGE, "kept_totals"), list(ends), list(ends.values()), timeout=FETCH_TIMEOUT_S
    ):
        amounts[row["credit_type"]] += int(row["amount"])
        counts[row["partition"]] += row["events"]
    for partition, head in (await _heads(connection)).items():
        if counts[partition] != head["sequence"]:
            raise ArchiveViolation(
                f"partition {partition}",
                f"archive and record hold {counts[partition]} events together, the head is at {head['sequence']}",
            )
    balances = Counter(
        {
            row["credit_type"]: int(row["balance"])
            for row in await connection.fetch(sql(_PACKAGE, "account_totals"), timeout=FETCH_TIMEOUT_S)
        }
    )
    for credit_type in sorted(amounts.keys() | balances.keys()):
        if amounts[credit_type] != balances[credit_type]:
            raise ArchiveViolation(
                f"all accounts ({credit_type})",
                f"their balances make {balances[credit_type]}, the amounts of archive and record make "
                f"{amounts[credit_type]}",
            )
    return Joined(counts.total() - archived)


async def _heads(connection: asyncpg.Connection) -> dict[int, Any]:
    rows = await connection.fetch(sql(_RECORD, "verify_heads"), timeout=FETCH_TIMEOUT_S)
    return {row["partition"]: row for row in rows}
