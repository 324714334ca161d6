"""A hand that writes the record as the ledger consumer does: it holds partitions and appends what follows from them."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

from ledger.domain.account import EMPTY_ACCOUNT, Account
from ledger.domain.chain import event_hash, metadata_digest
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import (
    AccountKey,
    AppendBatch,
    Appended,
    AppendResult,
    Claim,
    ConsumedMark,
    EventStore,
    HeadAdvance,
    OffsetAdvance,
    QuarantinedRecord,
)

ISSUED_AT = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
APP = "example-app"


@dataclass
class Place:
    """What a holder knows of one partition."""

    epoch: int
    sequence: int
    hash: bytes
    next_offset: int | None


@dataclass
class Hand:
    """Holds partitions of one store. Build a batch by `entry`, `rejection`, `unreadable`; `write` appends it.

    A batch that was not appended stays, and is appended by the next `write`; `forget` drops it.
    """

    store: EventStore
    places: dict[int, Place] = field(default_factory=dict)
    accounts: dict[AccountKey, Account] = field(default_factory=dict)
    batch: AppendBatch = field(default_factory=AppendBatch)
    drafts: dict[int, Place] = field(default_factory=dict)
    published: dict[int, int] = field(default_factory=dict)

    async def claim(self, *partitions: int, holder: str = "hand") -> Claim:
        """Claim these partitions; the last claim."""
        found = None
        for partition in partitions:
            claim = await self.store.claim(partition, holder)
            assert claim is not None
            found = claim
            mark = claim.marks.get(APP)
            self.places[partition] = Place(
                claim.epoch, claim.sequence, claim.hash, None if mark is None else mark.next_offset
            )
        assert found is not None, "name a partition"
        return found

    def entry(
        self,
        partition: int,
        amount: int = 1,
        *,
        owner_id: str = "owner",
        nonce: str | None = None,
        command_id: UUID | None = None,
        reason: str | None = None,
        detail: str | None = None,
        app: str = APP,
        operation: str = "CREDIT_ADD",
        credit_type: str = "credits",
        issued_at: datetime = ISSUED_AT,
        occurred_at: datetime = ISSUED_AT,
        metadata: str | None = None,
    ) -> UUID:
        """Add an event to the batch, an entry or (with `reason`) a rejection; its command id."""
        draft = self.draft(partition)
        command_id = command_id or uuid4()
        nonce = nonce or f"nonce of {command_id}"
        key = AccountKey(owner_id, credit_type)
        account = self.batch.accounts.get(key) or self.accounts.get(key, EMPTY_ACCOUNT)
        if reason is None:
            account = Account(account.balance + amount, account.version + 1)
            self.batch.accounts[key] = account
        else:
            amount = 0
        sequence = draft.sequence + 1
        digest = None if metadata is None else metadata_digest(metadata)
        command_offset = self._consume(partition)
        draft.hash = event_hash(
            draft.hash,
            partition=partition,
            sequence=sequence,
            app=app,
            command_id=command_id,
            operation=operation,
            owner_id=owner_id,
            credit_type=credit_type,
            account_version=account.version,
            amount=amount,
            balance_after=account.balance,
            nonce=nonce,
            issued_at=issued_at,
            occurred_at=occurred_at,
            reason=reason,
            detail=detail,
            metadata_digest=digest,
            command_offset=command_offset,
        )
        draft.sequence = sequence
        self.batch.events.append(
            (
                partition,
                sequence,
                account.version,
                amount,
                account.balance,
                issued_at,
                occurred_at,
                command_offset,
                command_id,
                app,
                operation,
                owner_id,
                credit_type,
                nonce,
                reason,
                detail,
                metadata,
                digest,
                draft.hash,
            )
        )
        self.batch.command_keys.append((*command_key(app, owner_id, command_id), partition, sequence))
        if reason is None:
            self.batch.nonce_keys.append((nonce_key(app, owner_id, nonce), partition, sequence))
        return command_id

    def rejection(self, partition: int, reason: str = "UNKNOWN_OPERATION", **fields: str) -> UUID:
        """Add the event of a rejected command to the batch; its command id."""
        return self.entry(partition, reason=reason, detail="because", **fields)  # type: ignore[arg-type]

    def unreadable(self, partition: int, *, key: bytes | None, value: bytes | None, detail: str = "") -> int:
        """Add a message for the quarantine to the batch; its offset."""
        offset = self._consume(partition)
        self.batch.quarantine.append(
            QuarantinedRecord(APP, partition, offset, 1_700_000_000_000, "NOT_JSON", detail, key, value)
        )
        return offset

    def draft(self, partition: int) -> Place:
        """Where the partition will stand after the batch; naming it is enough to make it part of the batch."""
        if partition not in self.drafts:
            place = self.places[partition]
            self.drafts[partition] = Place(place.epoch, place.sequence, place.hash, place.next_offset)
        return self.drafts[partition]

    def build(self) -> AppendBatch:
        """The batch, with its heads and offsets."""
        self.batch.heads.clear()
        self.batch.offsets.clear()
        for partition, draft in sorted(self.drafts.items()):
            place = self.places[partition]
            consumed = (draft.next_offset or 0) - (place.next_offset or 0)
            occurred_at = ISSUED_AT if draft.sequence > place.sequence else None
            self.batch.heads.append(
                HeadAdvance(
                    partition,
                    place.epoch,
                    place.sequence,
                    draft.sequence,
                    draft.hash,
                    occurred_at,
                    self.published.get(partition, 0),
                    consumed,
                )
            )
            if consumed:
                assert draft.next_offset is not None
                mark = ConsumedMark(draft.next_offset, draft.next_offset - 1, 1_700_000_000_000, b"digest")
                self.batch.offsets.append(OffsetAdvance(APP, partition, place.next_offset, mark))
        return self.batch

    async def write(self) -> AppendResult:
        """Append the batch; when it is appended, go on from there."""
        result = await self.store.append(self.build())
        if isinstance(result, Appended):
            self.places |= self.drafts
            self.accounts |= self.batch.accounts
            self.forget()
        return result

    def forget(self) -> None:
        """Drop what has not been appended."""
        self.drafts = {}
        self.batch = AppendBatch()

    def _consume(self, partition: int) -> int:
        draft = self.draft(partition)
        offset = draft.next_offset or 0
        draft.next_offset = offset + 1
        return offset
