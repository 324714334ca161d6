"""The read models equal the fold of the events up to their checkpoints."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

import asyncpg

from ledger.event_store.protocol import AccountKey
from ledger.event_store.verification import FoldWitness
from ledger.event_store.verification_checks import Check, Violation
from ledger.event_store.verification_partition import Folded
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S
from ledger.sql_files import sql
from projections.balances import BALANCES
from projections.read_model import versioned_sql
from projections.statements import STATEMENTS

ACCOUNTS_PER_LOOK_UP: Final = 10_000
_PACKAGE: Final = "service.verification"


class BalancesWitness:
    """Compares `balances`, in its active version, with the accounts as the events make them."""

    def __init__(self, connection: asyncpg.Connection, version: int, checkpoints: Mapping[int, int]) -> None:
        self._connection = connection
        self._version = version
        self._checkpoints = checkpoints
        self._accounts = 0

    def checkpoint(self, partition: int) -> int | None:
        """See FoldWitness."""
        return self._checkpoints.get(partition)

    async def see(self, partition: int, accounts: Mapping[AccountKey, Folded]) -> None:
        """See FoldWitness."""
        self._accounts += len(accounts)
        keys = iter(accounts)
        while slice_ := list(islice(keys, ACCOUNTS_PER_LOOK_UP)):
            rows = await self._connection.fetch(
                versioned_sql(_PACKAGE, "balances_of", self._version),
                [key.owner_id for key in slice_],
                [key.credit_type for key in slice_],
                timeout=FETCH_TIMEOUT_S,
            )
            stored = {AccountKey(row["owner_id"], row["credit_type"]): row for row in rows}
            for key in slice_:
                self._compare(partition, key, accounts[key], stored.get(key))

    async def finish(self) -> None:
        """See FoldWitness."""
        stored = await self._connection.fetchval(
            versioned_sql(_PACKAGE, "balances_count", self._version), timeout=FETCH_TIMEOUT_S
        )
        if stored != self._accounts:
            raise Violation(
                Check.READ_MODEL,
                f"balances (version {self._version})",
                f"it has {stored} accounts, the events up to its checkpoints make {self._accounts}",
            )

    def _compare(self, partition: int, key: AccountKey, folded: Folded, stored: Any) -> None:
        where = f"balances of {key.owner_id!r} ({key.credit_type})"
        reached = f"the events up to {partition}:{self._checkpoints[partition]} make {folded.balance}"
        if stored is None:
            raise Violation(Check.READ_MODEL, where, f"there is none, {reached}")
        found = (stored["balance"], stored["account_version"], stored["last_updated"])
        if found != (folded.balance, folded.version, folded.last_occurred_at):
            raise Violation(
                Check.READ_MODEL,
                where,
                f"stored are balance {found[0]}, version {found[1]}, last updated {found[2]}; {reached}, "
                f"version {folded.version}, {folded.last_occurred_at}",
            )


class StatementsWitness:
    """Compares `statements`, in its active version, with the events themselves, in the database."""

    def __init__(self, connection: asyncpg.Connection, version: int, checkpoints: Mapping[int, int]) -> None:
        self._connection = connection
        self._version = version
        self._checkpoints = checkpoints

    def checkpoint(self, partition: int) -> int | None:
        """See FoldWitness."""
        return self._checkpoints.get(partition)

    async def see(self, partition: int, accounts: Mapping[AccountKey, Folded]) -> None:
        """See FoldWitness."""
        difference = await self._connection.fetchrow(
            versioned_sql(_PACKAGE, "statements_difference", self._version),
            partition,
            self._checkpoints[partition],
            timeout=FETCH_TIMEOUT_S,
        )
        if difference is not None:
            where = f"{partition}:{difference['sequence']}"
            what = "does not hold it as it was recorded" if difference["recorded"] else "holds what was not recorded"
            raise Violation(Check.READ_MODEL, where, f"statements (version {self._version}) {what}")

    async def finish(self) -> None:
        """See FoldWitness. Rows of partitions that do not exist show nowhere else."""
        partitions = sorted(self._checkpoints)
        row = await self._connection.fetchrow(
            versioned_sql(_PACKAGE, "statements_stray", self._version), partitions, timeout=FETCH_TIMEOUT_S
        )
        if row is not None:
            raise Violation(
                Check.READ_MODEL,
                f"{row['partition']}:{row['sequence']}",
                f"statements (version {self._version}) holds it, on a partition that does not exist",
            )


async def read_model_witnesses(connection: asyncpg.Connection) -> list[FoldWitness]:
    """One for the active version of each read model that is installed, at its checkpoints in this snapshot."""
    checkpoints: dict[str, dict[int, int]] = {}
    versions: dict[str, int] = {}
    for row in await connection.fetch(sql(_PACKAGE, "active_checkpoints"), timeout=FETCH_TIMEOUT_S):
        checkpoints.setdefault(row["read_model"], {})[row["partition"]] = row["sequence"]
        versions[row["read_model"]] = row["version"]
    witnesses: list[FoldWitness] = []
    if BALANCES.name in versions:
        witnesses.append(BalancesWitness(connection, versions[BALANCES.name], checkpoints[BALANCES.name]))
    if STATEMENTS.name in versions:
        witnesses.append(StatementsWitness(connection, versions[STATEMENTS.name], checkpoints[STATEMENTS.name]))
    return witnesses
