"""`GET /commands/{command_id}`: what became of a command, at any time after it was published."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from ledger.domain.position import Position
from ledger.domain.rejection import State
from ledger.messages.command_model import OwnerId
from ledger.messages.topics import Topics
from producers.command_lookup import CommandLookup, Found, Place, RecordUnavailable
from producers.doors.caller import caller_of
from producers.errors import rejection
from producers.http_answers import POSITION_HEADER, RETRY_AFTER_S, refusal_text
from producers.http_models import ENTRY_EXAMPLE, Entry, ErrorBody, InvalidRequest
from producers.strict_json_route import StrictJsonRoute

StateSeen = Literal["RECEIVED", "COMPLETED", "FAILED", "QUARANTINED"]


class CommandStatus(BaseModel):
    """What is known of a command. `COMPLETED` and `FAILED` never change again."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"command_id": "019c1409-3d80-7000-8000-5f6f1c2d3e4f", "owner_id": "user-42", "state": "RECEIVED"},
                {
                    "command_id": "019c1409-3d80-7000-8000-5f6f1c2d3e4f",
                    "owner_id": "user-42",
                    "state": "COMPLETED",
                    "position": "3:17",
                    **ENTRY_EXAMPLE,
                },
                {
                    "command_id": "019c1409-3d80-7000-8000-5f6f1c2d3e4f",
                    "owner_id": "user-42",
                    "state": "FAILED",
                    "failed_in": "CHECKING_BALANCE",
                    "reason": "INSUFFICIENT_CREDITS",
                    "detail": "Insufficient credits: 3 available, 250 needed",
                    "position": "3:18",
                    "balance": 3,
                },
            ]
        }
    )

    command_id: UUID
    owner_id: str
    state: Annotated[
        StateSeen,
        Field(
            description=(
                "RECEIVED: in Kafka, not decided yet. COMPLETED: accepted. FAILED: refused, see `reason`. "
                "QUARANTINED: the message could not be read as a command, and an operator has been told."
            )
        ),
    ]
    failed_in: Annotated[State | None, Field(description="The state in which the command failed.")] = None
    reason: Annotated[str | None, Field(examples=["INSUFFICIENT_CREDITS"])] = None
    detail: str | None = None
    position: Annotated[str | None, Field(description="Where the decision is recorded.")] = None
    entry: Entry | None = None
    balance: Annotated[int | None, Field(description="The balance right after the decision.")] = None


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": CommandStatus, "description": "What is known of the command."},
    404: {"model": ErrorBody, "description": "The app has no such command of this owner, as far as is known."},
    422: {"model": InvalidRequest, "description": "The id, the owner or the place cannot be read."},
    503: {"model": ErrorBody, "description": "Postgres is away."},
}


def command_status_router(app: str, topics: Topics, lookup: CommandLookup) -> APIRouter:
    """The route `GET /commands/{command_id}`: for the commands of the app whose API key is shown, or of `app` where no
    keys are asked for."""
    router = APIRouter(route_class=StrictJsonRoute, tags=["commands"])

    @router.get(
        "/commands/{command_id}", summary="Ask what became of a command", response_model=None, responses=RESPONSES
    )
    async def get_command(
        request: Request,
        command_id: UUID,
        owner_id: Annotated[OwnerId, Query(description="The owner that the command names.")],
        at: Annotated[
            str | None,
            Query(
                description=(
                    "Where the command was published, `topic:partition:offset`, as `Location` gave it: tells one that "
                    "waits to be decided from one that nobody has heard of."
                ),
                examples=["ledger.commands.example-app:3:1041"],
                json_schema_extra={"pattern": r"^[a-z][a-z0-9.-]*:[0-9]{1,10}:[0-9]{1,18}$"},
            ),
        ] = None,
    ) -> JSONResponse:
        """Say what became of a command: of a `202`, or of any request whose answer was lost."""
        caller = caller_of(request.scope)
        asker = app if caller is None else caller.app
        try:
            place = None if at is None else place_of(at, topics.commands(asker))
        except ValueError as error:
            return JSONResponse({"detail": str(error)}, 422)
        try:
            found = await lookup.find(asker, owner_id, command_id, place)
        except RecordUnavailable:
            detail = "the command cannot be looked up: Postgres is away"
            return JSONResponse({"detail": detail}, 503, {"Retry-After": str(RETRY_AFTER_S)})
        status = status_of(command_id, owner_id, found, place)
        if status is None:
            return JSONResponse({"detail": f"Unknown command: {command_id} of owner {owner_id}"}, 404)
        headers = {} if status.position is None else {POSITION_HEADER: status.position}
        return JSONResponse(status.model_dump(mode="json", exclude_none=True), 200, headers)

    return router


def place_of(text: str, topic: str) -> Place:
    """Read `topic:partition:offset`.

    Raises:
        ValueError: it is none, or of another topic.
    """
    named, _, rest = text.partition(":")
    try:
        partition, offset = Position.parse(rest)
    except ValueError as error:
        raise ValueError(f"at is no topic:partition:offset: {text!r}") from error
    if named != topic or partition >= 2**31 or offset >= 2**63:  # what Kafka has, and what Postgres can hold
        raise ValueError(f"at names no place on {topic}: {text!r}")
    return Place(partition, offset)


def status_of(command_id: UUID, owner_id: str, found: Found, place: Place | None) -> CommandStatus | None:
    """What to say about a command; None when nothing is known of it."""
    event = found.event
    if event is not None:
        position = str(event.position)
        if event.accepted:
            return CommandStatus(
                command_id=command_id,
                owner_id=owner_id,
                state="COMPLETED",
                position=position,
                entry=Entry.of(event),
                balance=event.balance_after,
            )
        return CommandStatus(
            command_id=command_id,
            owner_id=owner_id,
            state="FAILED",
            failed_in=rejection(event).failed_in,
            reason=event.reason,
            detail=refusal_text(event),
            position=position,
            balance=event.balance_after,
        )
    if found.quarantined is not None:
        detail, retried_as = found.quarantined.detail, found.quarantined.retried_as
        if found.quarantined.status == "retried":
            if retried_as in (None, command_id):  # an operator published it again; its copy waits to be decided
                return CommandStatus(command_id=command_id, owner_id=owner_id, state="RECEIVED")
            # Mended under another id: under this one it will never be decided.
            detail += f"; an operator published it again as command {retried_as}"
        return CommandStatus(
            command_id=command_id,
            owner_id=owner_id,
            state="QUARANTINED",
            reason=found.quarantined.reason,
            detail=detail,
        )
    if place is not None and (found.next_offset is None or place.offset >= found.next_offset):
        return CommandStatus(command_id=command_id, owner_id=owner_id, state="RECEIVED")
    return None
