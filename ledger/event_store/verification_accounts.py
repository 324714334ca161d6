"""The stored accounts equal the fold of the events."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

import asyncpg

from ledger.event_store.protocol import AccountKey
from ledger.event_store.verification_checks import Check, Violation
from ledger.event_store.verification_partition import Folded
from ledger.event_store.verification_streams import FETCH_TIMEOUT_S
from ledger.sql_files import sql

ACCOUNTS_PER_LOOK_UP: Final = 10_000
_PACKAGE: Final = "ledger.event_store"


class AccountAuditor:
    """Compares the accounts of one partition after the other, and in the end their number."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self.count = 0

    async def see(self, folded: Mapping[AccountKey, Folded]) -> None:
        """Compare these accounts with the stored ones. Raises Violation."""
        self.count += len(folded)
        keys = iter(folded)
        while slice_ := list(islice(keys, ACCOUNTS_PER_LOOK_UP)):
            rows = await self._connection.fetch(
                sql(_PACKAGE, "load_accounts"),
                [key.owner_id for key in slice_],
                [key.credit_type for key in slice_],
                timeout=FETCH_TIMEOUT_S,
            )
            stored = {AccountKey(row["owner_id"], row["credit_type"]): row for row in rows}
            for key in slice_:
                _compare(key, folded[key], stored.get(key))

    async def finish(self) -> None:
        """There is no account without events. Raises Violation."""
        stored = await self._connection.fetchval(sql(_PACKAGE, "verify_account_count"), timeout=FETCH_TIMEOUT_S)
        if stored == self.count:
            return
        row = await self._connection.fetchrow(sql(_PACKAGE, "verify_stray_account"), timeout=FETCH_TIMEOUT_S)
        where = "the table of accounts" if row is None else f"the account of {row['owner_id']!r} ({row['credit_type']})"
        raise Violation(Check.ARITHMETIC, where, f"{stored} accounts are stored, the events make {self.count}")


def _compare(key: AccountKey, folded: Folded, stored: asyncpg.Record | None) -> None:
    where = f"the account of {key.owner_id!r} ({key.credit_type})"
    if stored is None:
        raise Violation(Check.ARITHMETIC, where, f"it is not stored; its events make {folded.balance}")
    found = (stored["balance"], stored["version"])
    if found != (folded.balance, folded.version):
        raise Violation(
            Check.ARITHMETIC,
            where,
            f"stored are balance {found[0]} and version {found[1]}, its events make {folded.balance} and "
            f"{folded.version}",
        )
