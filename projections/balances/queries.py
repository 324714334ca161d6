"""Queries of balances."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.domain.position import Position
from projections.balances import BALANCES
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions, read_at_least, read_until

OWNERS_IN_BATCH_MAX: Final = 200
"""Owners of one question."""


@dataclass(frozen=True, slots=True)
class Balance:
    """What one account holds. `last_updated` is None for an account without entries."""

    credit_type: str
    balance: int = 0
    account_version: int = 0
    last_updated: datetime | None = None


@dataclass(frozen=True, slots=True)
class OwnerBalances:
    """All accounts of an owner after the event at `position`."""

    owner_id: str
    position: Position
    accounts: tuple[Balance, ...]
    """Those with entries, by credit type."""

    def of(self, credit_type: str = DEFAULT_CREDIT_TYPE) -> Balance:
        """One account; empty when it has no entries."""
        return next((one for one in self.accounts if one.credit_type == credit_type), Balance(credit_type))


class BalanceReader:
    """Reads balances that contain everything this service has answered."""

    def __init__(self, pool: ReadPool, answered: AnsweredPositions, wait_limit_s: float) -> None:
        self._pool = pool
        self._answered = answered
        self._wait_limit_s = wait_limit_s

    async def of_owner(self, owner_id: str, min_positions: Collection[Position] = ()) -> OwnerBalances:
        """The balances of one owner, in one round trip when the read model is far enough.

        Args:
            owner_id: whose; an unknown owner has no accounts.
            min_positions: events that the answer must contain.

        Raises:
            StaleReadError: the read model did not get there in time.
            StoreUnavailableError: Postgres is away.
        """
        partition = await self._pool.partition(owner_id)
        required = self._answered.required(partition, owner_id, min_positions)

        async def read() -> OwnerBalances:
            return (await self.now([owner_id]))[owner_id]

        return await read_at_least(read, required, self._wait_limit_s)

    async def of_owners(
        self, owner_ids: Collection[str], min_positions: Collection[Position] = ()
    ) -> Mapping[str, OwnerBalances]:
        """The balances of many owners, in one round trip when the read model is far enough; all of one snapshot.

        Args:
            owner_ids: whose, at most OWNERS_IN_BATCH_MAX.
            min_positions: events that the answer must contain, of whichever of these owners.

        Raises:
            StaleReadError: the read model did not get there in time, on one of the owners' partitions.
            StoreUnavailableError: Postgres is away.
        """
        assert len(set(owner_ids)) <= OWNERS_IN_BATCH_MAX
        required = {
            owner_id: self._answered.required(await self._pool.partition(owner_id), owner_id, min_positions)
            for owner_id in owner_ids
        }

        def missed(found: Mapping[str, OwnerBalances]) -> tuple[Position, Position] | None:
            for owner_id, owner in found.items():
                if owner.position.sequence < required[owner_id]:
                    return Position(owner.position.partition, required[owner_id]), owner.position
            return None

        return await read_until(lambda: self.now(owner_ids), missed, self._wait_limit_s)

    async def now(self, owner_ids: Collection[str]) -> Mapping[str, OwnerBalances]:
        """The balances of many owners, as far as the read model has got, in one round trip.

        Raises:
            StoreUnavailableError: Postgres is away.
        """
        owners = sorted(set(owner_ids))
        if not owners:
            return {}
        partitions = [await self._pool.partition(owner_id) for owner_id in owners]
        rows = await self._pool.fetch_active(BALANCES, "read_balances", owners, partitions)
        positions = {row["owner_id"]: Position(row["partition"], row["sequence"]) for row in rows}
        accounts: dict[str, list[Balance]] = {owner_id: [] for owner_id in owners}
        for row in rows:
            if row["credit_type"] is not None:
                accounts[row["owner_id"]].append(
                    Balance(row["credit_type"], row["balance"], row["account_version"], row["last_updated"])
                )
        return {
            owner_id: OwnerBalances(owner_id, positions[owner_id], tuple(accounts[owner_id])) for owner_id in owners
        }
