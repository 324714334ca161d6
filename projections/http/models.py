"""The bodies of the HTTP routes for queries and health."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED
from projections.balances.queries import Balance, OwnerBalances
from projections.health import Health, Part
from projections.statements.queries import StatementLine, StatementPage

PositionText = Annotated[str, Field(description="`partition:sequence`", examples=["3:17"])]

BALANCE_EXAMPLE: Final[dict[str, Any]] = {
    "owner_id": "user-42",
    "credit_type": "credits",
    "balance": 750,
    "account_version": 2,
    "last_updated": "2026-01-31T12:00:00.123456Z",
    "position": "3:17",
    "balances": {"credits": 750},
}

PAGE_EXAMPLE: Final[dict[str, Any]] = {
    "owner_id": "user-42",
    "entries": [
        {
            "id": 3298534883345,
            "type": "entry_posted",
            "operation": "CREDIT_SPEND",
            "owner_id": "user-42",
            "amount": -250,
            "nonce": "order-1001",
            "created_at": "2026-01-31T12:00:00.123456Z",
            "updated_at": "2026-01-31T12:00:00.123456Z",
            "position": "3:17",
            "command_id": "019c1409-3d80-7000-8000-5f6f1c2d3e4f",
            "app": "example-app",
            "credit_type": "credits",
            "balance_after": 750,
            "account_version": 2,
            "reason": None,
            "detail": None,
        }
    ],
    "next_before": "3:17",
    "position": "3:41",
}


class BalanceBody(BaseModel):
    """What an account holds: 0 for an owner who is not known."""

    model_config = ConfigDict(json_schema_extra={"examples": [BALANCE_EXAMPLE]})

    owner_id: str
    credit_type: str
    balance: int
    account_version: Annotated[int, Field(description="How many entries the account has.")]
    last_updated: Annotated[datetime | None, Field(description="When its last entry was recorded.")]
    position: Annotated[PositionText, Field(description="The last event of the owner's partition that this contains.")]
    balances: Annotated[dict[str, int], Field(description="All of the owner's accounts, by credit type.")]

    @classmethod
    def of(cls, owner: OwnerBalances, credit_type: str) -> "BalanceBody":
        """One of the owner's accounts, beside the others."""
        account: Balance = owner.of(credit_type)
        return cls(
            owner_id=owner.owner_id,
            credit_type=account.credit_type,
            balance=account.balance,
            account_version=account.account_version,
            last_updated=account.last_updated,
            position=str(owner.position),
            balances={one.credit_type: one.balance for one in owner.accounts},
        )


class BalancesBody(BaseModel):
    """The balances of several owners, of one moment."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"balances": [BALANCE_EXAMPLE]}]})

    balances: Annotated[
        list[BalanceBody], Field(description="One for each owner asked for, in the order of the question.")
    ]


class EntryBody(BaseModel):
    """An event of the owner: an entry, or a rejection, which has a reason and moved nothing. It never changes."""

    id: Annotated[int, Field(description="partition * 2^40 + sequence")]
    type: Literal["entry_posted", "command_rejected"]
    operation: str
    owner_id: str
    amount: int
    nonce: str
    created_at: datetime
    updated_at: Annotated[datetime, Field(description="Equals `created_at`.")]
    position: PositionText
    command_id: UUID
    app: str
    credit_type: str
    balance_after: int
    account_version: int
    reason: str | None
    detail: str | None

    @classmethod
    def of(cls, line: StatementLine) -> "EntryBody":
        """A line of a statement."""
        return cls(
            id=line.position.entry_id,
            type=ENTRY_POSTED if line.reason is None else COMMAND_REJECTED,
            operation=line.operation,
            owner_id=line.owner_id,
            amount=line.amount,
            nonce=line.nonce,
            created_at=line.occurred_at,
            updated_at=line.occurred_at,
            position=str(line.position),
            command_id=line.command_id,
            app=line.app,
            credit_type=line.credit_type,
            balance_after=line.balance_after,
            account_version=line.account_version,
            reason=line.reason,
            detail=line.detail,
        )


class EntriesBody(BaseModel):
    """One page of an owner's statement, newest first."""

    model_config = ConfigDict(json_schema_extra={"examples": [PAGE_EXAMPLE]})

    owner_id: str
    entries: list[EntryBody]
    next_before: Annotated[
        PositionText | None, Field(description="Pass it as `before` to get the next page; null on the last one.")
    ]
    position: Annotated[PositionText, Field(description="The last event of the owner's partition that this contains.")]

    @classmethod
    def of(cls, owner_id: str, page: StatementPage) -> "EntriesBody":
        """A page."""
        return cls(
            owner_id=owner_id,
            entries=[EntryBody.of(line) for line in page.lines],
            next_before=None if page.next_before is None else str(page.next_before),
            position=str(page.position),
        )


class Healthy(BaseModel):
    """This process answers."""

    status: Literal["healthy"] = "healthy"


class PartBody(BaseModel):
    """One part: `failing` with what is wrong with it."""

    status: Literal["ok", "failing"]
    problems: list[str]

    @classmethod
    def of(cls, part: Part) -> "PartBody":
        """How it is."""
        return cls(status="ok" if part.ok else "failing", problems=part.problems)


class ConsumerPartitionBody(BaseModel):
    """One partition of the record."""

    partition: int
    holder: Annotated[str | None, Field(description="The ledger consumer that holds it.")]
    sequence: Annotated[int, Field(description="Its last event.")]
    unpublished: Annotated[int, Field(description="Events recorded and not yet published.")]
    halted_because: str | None
    silent_s: Annotated[float | None, Field(description="Seconds since its holder last said that it lives.")]
    waiting: Annotated[int | None, Field(description="Commands in Kafka that nobody has decided yet.")]
    halted_apps: Annotated[dict[str, str], Field(description="By app: why nothing of that app alone is consumed.")]


class ProjectionPartitionBody(BaseModel):
    """How far one read model has got on one partition."""

    read_model: str
    version: int
    partition: int
    holder: Annotated[str | None, Field(description="The projection worker that holds it.")]
    sequence: Annotated[int, Field(description="The last event that it contains.")]
    behind: Annotated[int, Field(description="Events recorded and not yet contained.")]
    behind_s: Annotated[float | None, Field(description="Seconds since the first of them was recorded.")]
    halted_because: str | None


class ReadySummary(BaseModel):
    """Whether all parts of the ledger work: all that a caller without an API key learns."""

    model_config = ConfigDict(extra="forbid")

    status: Literal["ready", "not ready"]


class ReadyBody(BaseModel):
    """How all parts of the ledger are."""

    status: Literal["ready", "not ready"]
    kafka: PartBody
    postgres: PartBody
    ledger_consumer: PartBody
    projections: PartBody
    consumer_partitions: list[ConsumerPartitionBody]
    projection_partitions: list[ProjectionPartitionBody]

    @classmethod
    def of(cls, health: Health) -> "ReadyBody":
        """The answer of /health/ready."""
        return cls(
            status="ready" if health.ready else "not ready",
            kafka=PartBody.of(health.kafka),
            postgres=PartBody.of(health.postgres),
            ledger_consumer=PartBody.of(health.ledger_consumer),
            projections=PartBody.of(health.projections),
            consumer_partitions=[
                ConsumerPartitionBody.model_validate(one, from_attributes=True) for one in health.consumer_partitions
            ],
            projection_partitions=[
                ProjectionPartitionBody.model_validate(one, from_attributes=True)
                for one in health.projection_partitions
            ],
        )


class QueryErrorBody(BaseModel):
    """Any error that is not about the form of the request."""

    detail: Annotated[str, Field(examples=["the read model is at 3:17 and did not reach 3:18 within 2 s; try again"])]
