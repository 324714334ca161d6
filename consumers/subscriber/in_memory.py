"""An app's handlers without Kafka: events are made, chained and given to them by the same code as in production."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from consumers.subscriber.delivery import Delivery, RetryPolicy
from consumers.subscriber.handlers import Handlers
from consumers.subscriber.lane import Lane, Outcome
from consumers.subscriber.parking import Discard, ParkedOwner, ParkedPartition, ParkingRecord, Retry
from consumers.subscriber.sequence_guard import BEGINNING, SequenceGuard
from ledger.domain.chain import GENESIS, event_hash, metadata_digest
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.messages.command_ids import derived_command_id
from ledger.messages.partitioning import partition_of

FIRST_OCCURRENCE: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""When the first made event occurs; each later one a second later."""


class EventChain:
    """Makes events as the ledger records them: sequences without a gap and a chain of hashes per partition, balances
    per owner. It decides nothing: whoever uses it says what was recorded."""

    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._heads: dict[int, tuple[int, bytes]] = {}
        self._accounts: dict[tuple[str, str], tuple[int, int]] = {}

    def posted(
        self,
        owner_id: str,
        operation: str,
        amount: int,
        *,
        app: str = "example-app",
        nonce: str | None = None,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
    ) -> RecordedEvent:
        """The next `entry_posted` of this owner's partition."""
        version, balance = self._accounts.get((owner_id, credit_type), (0, 0))
        self._accounts[owner_id, credit_type] = (version + 1, balance + amount)
        return self._record(owner_id, operation, amount, app, nonce, credit_type, metadata, ENTRY_POSTED, None, None)

    def rejected(
        self,
        owner_id: str,
        operation: str,
        reason: str,
        *,
        detail: str | None = None,
        app: str = "example-app",
        nonce: str | None = None,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
    ) -> RecordedEvent:
        """The next `command_rejected` of this owner's partition."""
        return self._record(owner_id, operation, 0, app, nonce, credit_type, metadata, COMMAND_REJECTED, reason, detail)

    def _record(
        self,
        owner_id: str,
        operation: str,
        amount: int,
        app: str,
        nonce: str | None,
        credit_type: str,
        metadata: Mapping[str, Any] | None,
        type_: str,
        reason: str | None,
        detail: str | None,
    ) -> RecordedEvent:
        partition = partition_of(owner_id.encode(), self._partitions)
        sequence, prev_hash = self._heads.get(partition, (0, GENESIS))
        sequence += 1
        version, balance = self._accounts.get((owner_id, credit_type), (0, 0))
        nonce = f"nonce-{partition}-{sequence}" if nonce is None else nonce
        occurred_at = FIRST_OCCURRENCE + timedelta(seconds=sequence)
        raw_metadata = None if metadata is None else msgspec.json.encode(metadata)
        fields: dict[str, Any] = {
            "partition": partition,
            "sequence": sequence,
            "app": app,
            "command_id": derived_command_id(app, owner_id, nonce, str(sequence)),
            "operation": operation,
            "owner_id": owner_id,
            "credit_type": credit_type,
            "account_version": version,
            "amount": amount,
            "balance_after": balance,
            "nonce": nonce,
            "issued_at": occurred_at,
            "occurred_at": occurred_at,
            "reason": reason,
            "detail": detail,
        }
        digest = event_hash(
            prev_hash,
            metadata_digest=None if raw_metadata is None else metadata_digest(raw_metadata),
            command_offset=sequence - 1,
            **fields,
        )
        self._heads[partition] = (sequence, digest)
        return RecordedEvent(
            type=type_,
            prev_hash=prev_hash.hex(),
            hash=digest.hex(),
            metadata=None if raw_metadata is None else msgspec.Raw(raw_metadata),
            **fields,
        )


class InMemoryParkingLog:
    """The parked topic as a list."""

    def __init__(self) -> None:
        self.records: list[ParkingRecord] = []

    async def append(self, partition: int, record: ParkingRecord) -> int:
        """Append and return the offset."""
        self.records.append(record)
        return len(self.records) - 1


class InMemoryEvents:
    """Feeds events to an app's handlers, with the order, drop, halt and park rules of the real subscriber.

    One partition; attempts without back-off. `chain` makes the events:

        events = subscriber.in_memory()
        await events.give(events.chain.posted("ada", "CONTENT_CREATION", -5, nonce="content_1"))
    """

    def __init__(
        self, handlers: Handlers, *, group: str, park_failures: bool, now: Callable[[], datetime] | None = None
    ) -> None:
        self.chain = EventChain()
        self.parking_log = InMemoryParkingLog()
        self._group = group
        self._now = now or (lambda: FIRST_OCCURRENCE)
        self._lane = Lane(
            0,
            group=group,
            guard=SequenceGuard(0, BEGINNING),
            handlers=handlers,
            delivery=Delivery(RetryPolicy(first_backoff_s=0)),
            parked=ParkedPartition(group),
            parking_log=self.parking_log,
            park_failures=park_failures,
            now=self._now,
        )

    async def give(self, *events: RecordedEvent) -> tuple[Outcome, ...]:
        """Give events in this order and return what became of each.

        Raises:
            DivergedError, SubscriberHaltedError: as the real subscriber would halt.
        """
        return tuple([await self._lane.take(event) for event in events])

    @property
    def parked_owners(self) -> dict[str, ParkedOwner]:
        """The parked owners by their id."""
        return {owner.owner_id: owner for owner in self._lane.parked.owners}

    async def retry(self, owner_id: str) -> None:
        """Release the owner, as `ledger parked retry` does, and handle what waits."""
        last = self.parked_owners[owner_id].last_sequence
        await self._mark(Retry(self._group, owner_id, self._now(), last))

    async def discard(self, owner_id: str) -> None:
        """Drop the owner's first parked event, as `ledger parked discard` does, and handle what waits behind it."""
        first = self.parked_owners[owner_id].first.event.sequence
        await self._mark(Discard(self._group, owner_id, self._now(), first))

    async def _mark(self, marker: ParkingRecord) -> None:
        offset = await self.parking_log.append(0, marker)
        await self._lane.note(offset, marker)
        await self._lane.release(lambda: True)
