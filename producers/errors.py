"""Everything that a call to the ledger can raise.

    LedgerError
        InvalidCommand              nothing was sent: the call itself is wrong
        TopicUnusable               nothing was sent: the app's command topic is missing
        ClientClosed                nothing was sent: the client is not open
        KafkaUnavailable            nothing was sent: no connection to Kafka could be made
        NotPublished                nothing was sent: Kafka is away or the buffer stayed full
        OutcomeUnknown              sent, but not answered in time
            PublishInDoubt          perhaps sent, perhaps not
        CommandRejected             decided and recorded: the ledger refused the command
            UnknownOperation, OperationNotAllowed, UnknownCreditType, InvalidAmount, Expired,
            DuplicateNonce, InsufficientCredits, BalanceOverflow

After NotPublished and after OutcomeUnknown the same call with the same `command_id` is safe: the ledger decides a
command id of an owner once, and answers every copy of it with that first decision.
"""
# ruff: noqa: N818  (these are the words of the ledger, in which its refusals are spoken of everywhere else)

import re
from typing import Final
from uuid import UUID

from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.domain.rejection import Reason, State
from producers.outcome import Published


class LedgerError(Exception):
    """Anything that went wrong between an app and the ledger."""


class InvalidCommand(LedgerError, ValueError):
    """The command cannot be sent as it is; the text names the field and what it must be. Nothing was sent."""


class TopicUnusable(LedgerError):
    """The app's command topic does not exist. Register the app and run `ledger topics sync`. Nothing was sent."""


class ClientClosed(LedgerError):
    """The client is not open: use it inside `async with`. Nothing was sent."""


class KafkaUnavailable(LedgerError):
    """Kafka does not answer, so the client cannot be opened, or cannot read outcomes. Nothing was sent."""


class NotPublished(LedgerError):
    """The command was not sent: Kafka did not answer in time, or the buffer stayed full. Nothing will come of it."""

    def __init__(self, command_id: UUID, why: str) -> None:
        super().__init__(f"command {command_id} was not published: {why}; try it again, with this id or a new one")
        self.command_id = command_id
        self.why = why


class OutcomeUnknown(LedgerError):
    """The command is in Kafka and will be decided, but the answer did not come in time.

    Call again with this `command_id`: whatever was or will be decided is the answer, and nothing happens twice.
    """

    def __init__(self, command_id: UUID, why: str, published: Published | None = None) -> None:
        super().__init__(f"the outcome of command {command_id} is unknown: {why}; ask again with this command id")
        self.command_id = command_id
        self.why = why
        self.published = published
        """Where the command lies; None when no copy of it was acknowledged."""


class PublishInDoubt(OutcomeUnknown):
    """Kafka did not acknowledge the command: it was published, or it was not. Retry with the same `command_id`."""


class CommandRejected(LedgerError):
    """The ledger refused the command, for ever: the refusal is recorded at `position`.

    The account is as it was. A new command (with a new command id) may be accepted later.
    """

    def __init__(self, event: RecordedEvent, *, replayed: bool = False) -> None:
        super().__init__(f"{event.reason}: {event.detail}" if event.detail else str(event.reason))
        self.event = event
        self.replayed = replayed
        """Whether the command had been decided before this call."""

    @property
    def reason(self) -> str:
        """Why, by name: `ledger.domain.rejection.Reason`, or a name newer than this client."""
        return self.event.reason or ""

    @property
    def detail(self) -> str:
        """Why, with the figures."""
        return self.event.detail or ""

    @property
    def position(self) -> Position:
        """Where the refusal is recorded."""
        return self.event.position

    @property
    def failed_in(self) -> State:
        """The state in which the command failed."""
        try:
            return Reason(self.reason).failed_in
        except ValueError:
            return State.PROCESSING  # a reason newer than this client: all its own checks were passed


class UnknownOperation(CommandRejected):
    """The app declares no operation of this name."""


class OperationNotAllowed(CommandRejected):
    """The app may not use this base operation."""


class UnknownCreditType(CommandRejected):
    """The app declares no credit type of this name."""


class InvalidAmount(CommandRejected):
    """The amount breaks the operation's rule: sign, size, or that the caller may set it at all."""


class Expired(CommandRejected):
    """`not_after` had passed when the command was decided."""


class DuplicateNonce(CommandRejected):
    """An accepted entry of this app and owner has the nonce already: this business action has been done."""

    @property
    def original(self) -> Position | None:
        """Where that entry lies."""
        try:
            return Position.parse(self.detail)
        except ValueError:
            return None


class InsufficientCredits(CommandRejected):
    """The account holds less than the command takes."""

    @property
    def available(self) -> int:
        """The balance when the command was decided."""
        return self.event.balance_after

    @property
    def needed(self) -> int | None:
        """What the command would have taken, as a positive number."""
        found = _NEEDED.search(self.detail)
        return int(found[1]) if found else None


class BalanceOverflow(CommandRejected):
    """The balance would have grown beyond 2^53-1."""


_NEEDED: Final = re.compile(r"(\d+) needed")

_BY_REASON: Final[dict[str, type[CommandRejected]]] = {
    Reason.UNKNOWN_OPERATION: UnknownOperation,
    Reason.OPERATION_NOT_ALLOWED: OperationNotAllowed,
    Reason.UNKNOWN_CREDIT_TYPE: UnknownCreditType,
    Reason.INVALID_AMOUNT: InvalidAmount,
    Reason.EXPIRED: Expired,
    Reason.DUPLICATE_NONCE: DuplicateNonce,
    Reason.INSUFFICIENT_CREDITS: InsufficientCredits,
    Reason.BALANCE_OVERFLOW: BalanceOverflow,
}


def rejection(event: RecordedEvent, *, replayed: bool = False) -> CommandRejected:
    """The exception that a rejection is raised as."""
    return _BY_REASON.get(event.reason or "", CommandRejected)(event, replayed=replayed)
