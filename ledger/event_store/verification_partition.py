"""The auditor of one partition: what its events must be, in their order, computed again from scratch.

It shares no code with the decider, so that an error there cannot hide here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ledger.domain.chain import GENESIS, event_hash, metadata_digest
from ledger.domain.limits import AMOUNT_MAX
from ledger.event_store.protocol import AccountKey
from ledger.event_store.verification_checks import Check, Violation
from ledger.messages.partitioning import partition_of


@dataclass(frozen=True, slots=True)
class Folded:
    """An account after the events seen so far."""

    balance: int
    version: int
    last_sequence: int
    last_occurred_at: datetime


@dataclass(slots=True)
class LogGeneration:
    """One log of an app's commands: a topic that was made anew uses the same offsets again."""

    first_sequence: int = 1
    """Events from here on are of it, up to where the next one begins."""
    ends_at: int = 0
    """The offset behind the last one consumed."""
    quarantined: set[int] = field(default_factory=set)
    """Its offsets that lie in quarantine."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a partition, and the logs of its apps, as they are stored."""

    partition: int
    epoch: int
    sequence: int
    hash: bytes
    occurred_at: datetime | None
    published_sequence: int
    consumed: int
    logs: Mapping[str, Sequence[LogGeneration]]
    """By app, its generations in their order."""


class PartitionAuditor:
    """Sees every event of one partition, then compares with the head."""

    def __init__(self, head: Head, partitions: int) -> None:
        self.head = head
        self.accounts: dict[AccountKey, Folded] = {}
        self.sequence = 0
        self.hash = GENESIS
        self._partitions = partitions
        self._occurred_at: datetime | None = None
        self._offsets: dict[str, int] = {}
        self._generations: dict[str, int] = {}

    def see(self, row: Any) -> None:
        """Check the next event. Raises Violation."""
        partition, sequence = self.head.partition, row["sequence"]
        if sequence != self.sequence + 1:
            raise Violation(
                Check.SEQUENCE,
                f"{partition}:{self.sequence + 1}",
                f"it is missing; the next one is {partition}:{sequence}",
            )
        where = f"{partition}:{sequence}"
        home = partition_of(row["owner_id"].encode(), self._partitions)
        if home != partition:
            raise Violation(Check.ORDER, where, f"owner {row['owner_id']!r} belongs on partition {home}")
        # What names more precisely what is wrong comes first, the chain, which covers everything, last.
        self._check_offset(row, where)
        self._check_account(row, where)
        self._check_chain(row, where)
        occurred_at = row["occurred_at"]
        if self._occurred_at is not None and occurred_at < self._occurred_at:
            raise Violation(Check.ORDER, where, f"occurred_at goes back from {self._occurred_at} to {occurred_at}")
        self._occurred_at = occurred_at
        self.sequence = sequence

    def finish(self) -> None:
        """Compare with the head, after the last event. Raises Violation."""
        head = self.head
        where = f"the head of partition {head.partition}"
        if self.sequence < head.sequence:
            raise Violation(
                Check.LOST,
                f"{head.partition}:{self.sequence + 1}",
                f"the head is at {head.sequence}, the record ends at {self.sequence}",
            )
        if self.sequence > head.sequence:
            raise Violation(
                Check.LOST,
                f"{head.partition}:{head.sequence + 1}",
                f"the record goes on to {self.sequence} behind the head at {head.sequence}",
            )
        if self.hash != head.hash:
            raise Violation(Check.CHAIN, where, f"it has hash {head.hash.hex()}, the last event {self.hash.hex()}")
        if self.sequence and self._occurred_at != head.occurred_at:
            raise Violation(
                Check.ORDER, where, f"it has occurred_at {head.occurred_at}, the last event {self._occurred_at}"
            )
        if head.published_sequence > head.sequence:
            raise Violation(
                Check.PUBLISHED,
                f"{head.partition}:{head.sequence + 1}",
                f"published_sequence is {head.published_sequence}, the head is at {head.sequence}",
            )
        if head.epoch < 1 and head.sequence:
            raise Violation(Check.EPOCH, where, "it has events, but nobody ever claimed it")
        quarantined = sum(len(one.quarantined) for generations in head.logs.values() for one in generations)
        if self.sequence + quarantined > head.consumed:
            raise Violation(
                Check.CONSUMED,
                where,
                f"{head.consumed} messages were consumed, but there are {self.sequence} events and "
                f"{quarantined} quarantine rows",
            )

    def _check_offset(self, row: Any, where: str) -> None:
        app, offset = row["app"], row["command_offset"]
        generations = self.head.logs.get(app, ())
        reached = self._generations.get(app, 0)
        while reached + 1 < len(generations) and generations[reached + 1].first_sequence <= row["sequence"]:
            reached += 1
            self._generations[app] = reached
            self._offsets[app] = -1
        before = self._offsets.get(app, -1)
        if offset == before:
            raise Violation(Check.CONSUMED, where, f"the message {app}:{offset} has a second event")
        if offset < before:
            raise Violation(Check.ORDER, where, f"the message {app}:{offset} is decided after {app}:{before}")
        self._offsets[app] = offset
        log = generations[reached] if generations else LogGeneration()
        if offset >= log.ends_at:
            raise Violation(
                Check.CONSUMED,
                where,
                f"its message {app}:{offset} is not consumed yet: the next offset of {app} is {log.ends_at}",
            )
        if offset in log.quarantined:
            raise Violation(Check.CONSUMED, where, f"its message {app}:{offset} is in quarantine as well")

    def _check_account(self, row: Any, where: str) -> None:
        key = AccountKey(row["owner_id"], row["credit_type"])
        before = self.accounts.get(key)
        balance, version = (0, 0) if before is None else (before.balance, before.version)
        amount, balance_after, account_version = row["amount"], row["balance_after"], row["account_version"]
        if balance_after < 0:
            raise Violation(Check.NEGATIVE, where, f"the balance of {_named(key)} is {balance_after}")
        if balance_after != balance + amount:
            raise Violation(
                Check.ARITHMETIC,
                where,
                f"balance_after of {_named(key)} is {balance_after}, but {balance} + {amount} = {balance + amount}",
            )
        accepted = row["reason"] is None
        if not accepted and amount != 0:
            raise Violation(Check.ARITHMETIC, where, f"a rejected command moves {_named(key)} by {amount}")
        if abs(amount) > AMOUNT_MAX or balance_after > AMOUNT_MAX:
            raise Violation(Check.ARITHMETIC, where, f"an amount of {_named(key)} is larger than {AMOUNT_MAX}")
        if account_version != version + accepted:
            raise Violation(
                Check.ARITHMETIC,
                where,
                f"account_version of {_named(key)} is {account_version}, it should be {version + accepted}",
            )
        if accepted:
            self.accounts[key] = Folded(balance_after, account_version, row["sequence"], row["occurred_at"])

    def _check_chain(self, row: Any, where: str) -> None:
        metadata, digest = row["metadata"], row["metadata_digest"]
        # Without its metadata an event still verifies: they may be erased, the digest stays.
        if metadata is not None and (digest is None or metadata_digest(metadata) != digest):
            raise Violation(Check.CHAIN, where, "its metadata do not have the digest that was recorded")
        self.hash = event_hash(
            self.hash,
            partition=row["partition"],
            sequence=row["sequence"],
            app=row["app"],
            command_id=row["command_id"],
            operation=row["operation"],
            owner_id=row["owner_id"],
            credit_type=row["credit_type"],
            account_version=row["account_version"],
            amount=row["amount"],
            balance_after=row["balance_after"],
            nonce=row["nonce"],
            issued_at=row["issued_at"],
            occurred_at=row["occurred_at"],
            reason=row["reason"],
            detail=row["detail"],
            metadata_digest=digest,
            command_offset=row["command_offset"],
        )
        if self.hash != row["hash"]:
            raise Violation(
                Check.CHAIN,
                where,
                f"its fields and the event before it give hash {self.hash.hex()}, recorded is {row['hash'].hex()}: "
                "one of the two was changed",
            )


def _named(key: AccountKey) -> str:
    return f"{key.owner_id!r} ({key.credit_type})"
