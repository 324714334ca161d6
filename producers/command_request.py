"""From what a caller asks for to the message that asks the ledger for it; everything is checked before it is sent."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import ValidationError

from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.messages.command_codec import encode_command
from ledger.messages.command_ids import new_command_id
from ledger.messages.command_model import CommandModel
from ledger.messages.partitioning import partition_of
from producers.errors import InvalidCommand


@dataclass(frozen=True, slots=True)
class CommandRequest:
    """One command as a caller asks for it.

    Args:
        operation: its name, as the app's operations declare it.
        owner_id: whose credits, 1 to 128 characters.
        nonce: the app's own key of this business action, 1 to 128 characters: it happens at most once per owner.
        amount: signed; None for the operation's default.
        credit_type: which kind of credits.
        metadata: a JSON object of at most 4 KiB, kept with the event.
        not_after: refuse the command when it is decided later than this (an aware time).
        command_id: the id of an earlier try, to repeat it safely; None for a new request.
        issued_at: when the request was made (an aware time); None for now.
    """

    operation: str
    owner_id: str
    nonce: str
    amount: int | None = None
    credit_type: str = DEFAULT_CREDIT_TYPE
    metadata: Mapping[str, Any] | None = None
    not_after: datetime | None = None
    command_id: UUID | None = None
    issued_at: datetime | None = None


class PreparedCommand(NamedTuple):
    """A command that was checked, with the bytes that carry it: a retry sends the same bytes."""

    command: Command
    partition: int
    record: OutgoingRecord


def prepare(request: CommandRequest, app: str, partitions: int) -> PreparedCommand:
    """Check the request and encode it.

    Raises:
        InvalidCommand: it could not be read by the ledger; the text names each field and what it must be.
    """
    fields: dict[str, Any] = {
        "command_id": request.command_id or new_command_id(),
        "operation": request.operation,
        "owner_id": request.owner_id,
        "nonce": request.nonce,
        "issued_at": request.issued_at or datetime.now(UTC),
        "credit_type": request.credit_type,
    }
    if request.amount is not None:
        fields["amount"] = request.amount
    if request.metadata is not None:
        fields["metadata"] = dict(request.metadata)
    if request.not_after is not None:
        fields["not_after"] = request.not_after
    try:
        command = CommandModel.model_validate(fields).command(app)
        if request.metadata is not None:
            _refuse_nan(request.metadata)
    except ValidationError as error:
        raise InvalidCommand(_in_words(error)) from error
    except RecursionError as error:
        raise InvalidCommand("metadata is nested too deeply") from error
    key = command.owner_id.encode()
    return PreparedCommand(command, partition_of(key, partitions), OutgoingRecord(key, encode_command(command)))


def _refuse_nan(metadata: Mapping[str, Any]) -> None:
    """The encoder would write null for NaN and infinity, which is not what was asked for."""
    try:
        json.dumps(metadata, allow_nan=False, default=str)
    except (TypeError, ValueError) as error:
        raise InvalidCommand(f"the command cannot be sent: metadata: {error}") from error


def _in_words(error: ValidationError) -> str:
    wrong = [
        (".".join(str(part) for part in line["loc"]), line["msg"].removeprefix("Value error, "))
        for line in error.errors(include_url=False, include_input=False)
    ]
    return "the command cannot be sent: " + "; ".join(f"{place}: {text}" if place else text for place, text in wrong)
