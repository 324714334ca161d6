"""The bodies of the HTTP routes for commands."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import msgspec
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ledger.domain.event import RecordedEvent
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.messages.command_model import Amount, CreditType, Nonce, OperationName, OwnerId, Time
from ledger.messages.metadata import metadata_error
from producers.command_request import CommandRequest

ENTRIES_IN_BATCH_MAX: Final = 1_000

ENTRY_EXAMPLE: Final[dict[str, Any]] = {
    "entry": {
        "id": 3298534883345,
        "operation": "CREDIT_SPEND",
        "owner_id": "user-42",
        "amount": -250,
        "nonce": "order-1001",
        "created_at": "2026-01-31T12:00:00.123456Z",
        "updated_at": "2026-01-31T12:00:00.123456Z",
        "position": "3:17",
        "command_id": "019c1409-3d80-7000-8000-5f6f1c2d3e4f",
    },
    "balance": 750,
}


class EntryRequest(BaseModel):
    """A command: one change to one owner's account."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"operation": "CREDIT_ADD", "owner_id": "user-42", "nonce": "top-up-7", "amount": 1000},
                {"operation": "CREDIT_SPEND", "owner_id": "user-42", "nonce": "order-1001", "amount": -250},
            ]
        },
    )

    operation: Annotated[OperationName, Field(description="A name that the app's operations declare.")]
    owner_id: Annotated[OwnerId, Field(description="Whose credits; any text, unique to the owner.")]
    nonce: Annotated[
        Nonce,
        Field(description="The app's own key of this business action: it is accepted at most once per owner."),
    ]
    amount: Annotated[
        Amount | None,
        Field(description="Signed: a spend is negative. Left out, the operation's default counts."),
    ] = None
    credit_type: Annotated[CreditType, Field(description="Which kind of credits.")] = DEFAULT_CREDIT_TYPE
    metadata: Annotated[
        dict[str, Any] | None,
        Field(description="Kept with the entry; at most 4 KiB of JSON.", examples=[{"order": 1001}]),
    ] = None
    not_after: Annotated[
        Time | None, Field(description="Refuse the command when it is decided later than this (RFC 3339).")
    ] = None

    @field_validator("metadata")
    @classmethod
    def _metadata_fits(cls, metadata: dict[str, Any] | None) -> dict[str, Any] | None:
        # Here as well as in the client, so that one bad command of a batch stops the batch before any is sent.
        error = None if metadata is None else metadata_error(msgspec.json.encode(metadata))
        if error is not None:
            raise ValueError(error)
        return metadata

    def command_request(self, command_id: UUID | None) -> CommandRequest:
        """What the client is asked to send."""
        return CommandRequest(
            self.operation,
            self.owner_id,
            self.nonce,
            self.amount,
            self.credit_type,
            self.metadata,
            self.not_after,
            command_id,
        )


class EntryBatch(BaseModel):
    """Up to 1,000 commands, published in this order. A bare JSON list of them is read as well."""

    model_config = ConfigDict(extra="forbid", strict=True)

    entries: Annotated[list[EntryRequest], Field(max_length=ENTRIES_IN_BATCH_MAX)]

    @model_validator(mode="before")
    @classmethod
    def _list_or_object(cls, value: object) -> object:
        return {"entries": value} if isinstance(value, list) else value


class Entry(BaseModel):
    """An accepted command as it was recorded; it never changes, so `updated_at` equals `created_at`."""

    id: Annotated[int, Field(description="partition * 2^40 + sequence")]
    operation: str
    owner_id: str
    amount: int
    nonce: str
    created_at: datetime
    updated_at: datetime
    position: Annotated[str, Field(description="`partition:sequence`; a read that names it shows the entry.")]
    command_id: UUID

    @classmethod
    def of(cls, event: RecordedEvent) -> "Entry":
        """The entry that the event posted."""
        return cls(
            id=event.position.entry_id,
            operation=event.operation,
            owner_id=event.owner_id,
            amount=event.amount,
            nonce=event.nonce,
            created_at=event.occurred_at,
            updated_at=event.occurred_at,
            position=str(event.position),
            command_id=event.command_id,
        )


class EntryPosted(BaseModel):
    """The answer to an accepted command."""

    model_config = ConfigDict(json_schema_extra={"examples": [ENTRY_EXAMPLE]})

    entry: Entry
    balance: Annotated[int, Field(description="The account's balance right after this entry.")]


class StillUnderWay(BaseModel):
    """202: the command is in Kafka and will be decided; ask at `location` what became of it."""

    command_id: UUID
    state: Literal["RECEIVED"] = "RECEIVED"
    location: Annotated[
        str,
        Field(
            examples=[
                "/commands/019c1409-3d80-7000-8000-5f6f1c2d3e4f?owner_id=user-42&at=ledger.commands.example-app:3:1041"
            ]
        ),
    ]


class ErrorBody(BaseModel):
    """Any error that is not about the form of the request."""

    detail: Annotated[str, Field(examples=["Insufficient credits: 3 available, 250 needed"])]


class InvalidField(BaseModel):
    """One thing that is wrong with the request's form."""

    loc: list[str | int]
    msg: str
    type: str


class InvalidRequest(BaseModel):
    """422: the request is not of the documented form (a list), or its Idempotency-Key belongs to another (a text)."""

    detail: list[InvalidField] | str


class BatchResult(BaseModel):
    """One command's answer: the status and the body that the single route would have given."""

    status: Annotated[int, Field(examples=[200])]
    body: EntryPosted | StillUnderWay | ErrorBody | InvalidRequest


class BatchResults(BaseModel):
    """The answers in the order of the commands."""

    results: list[BatchResult]
