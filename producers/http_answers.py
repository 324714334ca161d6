"""From what a caller asks over HTTP to the answer: status, body and headers, one command or many."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote
from uuid import UUID

from fastapi import HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position
from ledger.domain.rejection import Reason
from ledger.domain.rules import OperationRule
from producers.command_request import CommandRequest
from producers.doors.caller import caller_of
from producers.errors import (
    CommandRejected,
    InvalidCommand,
    LedgerError,
    OutcomeUnknown,
    PublishInDoubt,
    TopicUnusable,
)
from producers.http_models import Entry, EntryPosted, EntryRequest, StillUnderWay
from producers.idempotency import command_id_of_key, difference
from producers.outcome import Outcome, Published

RETRY_AFTER_S: Final = 1
"""What a 503 tells the caller to wait."""

POSITION_HEADER: Final = "Ledger-Position"
COMMAND_ID_HEADER: Final = "Ledger-Command-Id"
REASON_HEADER: Final = "Ledger-Reason"

_log: Final = logging.getLogger(__name__)


class Submitter(Protocol):
    """What of `LedgerClient` is needed here."""

    @property
    def app(self) -> str: ...

    async def submit_many(
        self, requests: Sequence[CommandRequest], *, wait_s: float | None = None
    ) -> list[Outcome | LedgerError]: ...


class AnswersOfCaller(Protocol):
    """Finds out for whom a request is answered."""

    async def of_caller(self, request: Request) -> "HttpAnswers":
        """The answers of the app as which the caller publishes. Raises HTTPException when it is none."""


class Answer(NamedTuple):
    """One command's answer."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    def response(self) -> JSONResponse:
        """As the single route gives it."""
        return JSONResponse(self.body, self.status, self.headers)


class HttpAnswers:
    """Submits commands and puts their outcomes into HTTP's words."""

    def __init__(
        self,
        ledger: Submitter,
        note_position: Callable[[Position, str], None],
        outcome_wait_s: float,
        rules: Mapping[str, OperationRule] | None = None,
        record_trouble: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        """
        Args:
            ledger: the client; it may be opened later than this is called.
            note_position: told each position that is answered, and the owner, before the answer: reads wait for it.
            outcome_wait_s: how long an outcome is waited for before the answer is 202.
            rules: the app's operations, for requests without an amount that repeat an Idempotency-Key.
            record_trouble: why the record is away, or None; nothing is published then.
        """
        self._ledger = ledger
        self._note_position = note_position
        self._outcome_wait_s = outcome_wait_s
        self._rules = rules or {}
        self._record_trouble = record_trouble

    @property
    def app(self) -> str:
        """The app as which everything is published."""
        return self._ledger.app

    def through(self, ledger: Submitter, rules: Mapping[str, OperationRule]) -> "HttpAnswers":
        """The same for another app: its way to the ledger, and its operations."""
        return HttpAnswers(ledger, self._note_position, self._outcome_wait_s, rules, self._record_trouble)

    async def of_caller(self, request: Request) -> "HttpAnswers":
        """These, for routes of this app alone. Raises HTTPException 403 when the API key is another app's."""
        caller = caller_of(request.scope)
        if caller is not None and caller.app != self.app:
            raise HTTPException(403, f"This route belongs to the app {self.app}; the API key is one of {caller.app}")
        return self

    async def one(self, request: EntryRequest, idempotency_key: str | None = None) -> Answer:
        """Submit one command."""
        command_id = None if idempotency_key is None else command_id_of_key(self.app, request.owner_id, idempotency_key)
        [answer] = await self._answers([request], [command_id])
        return answer

    async def many(self, requests: Sequence[EntryRequest], idempotency_key: str | None = None) -> list[Answer]:
        """Submit commands in this order; the answers in the same order."""
        command_ids = [
            None if idempotency_key is None else command_id_of_key(self.app, request.owner_id, idempotency_key, index)
            for index, request in enumerate(requests)
        ]
        return await self._answers(requests, command_ids)

    async def _answers(self, requests: Sequence[EntryRequest], command_ids: Sequence[UUID | None]) -> list[Answer]:
        commands = [
            request.command_request(command_id) for request, command_id in zip(requests, command_ids, strict=True)
        ]
        trouble = await self._record_trouble() if self._record_trouble is not None else None
        if trouble is not None:
            _log.warning("commands were not published: %s", trouble)
            return [_unavailable("the command was not published: Postgres is away") for _ in requests]
        try:
            outcomes = await self._ledger.submit_many(commands, wait_s=self._outcome_wait_s)
        except TopicUnusable as error:
            _log.warning("commands were not published: %s", error)
            return [_unavailable(f"the command was not published: {error}") for _ in requests]
        except LedgerError as error:
            _log.warning("commands were not published: %s", error)
            return [_unavailable("the command was not published: Kafka is away") for _ in requests]
        return [
            self._answer(request, outcome, command_id is not None)
            for request, outcome, command_id in zip(requests, outcomes, command_ids, strict=True)
        ]

    def _answer(self, request: EntryRequest, outcome: Outcome | LedgerError, keyed: bool) -> Answer:
        if isinstance(outcome, Outcome | CommandRejected):
            return self._decided(request, outcome.event, keyed)
        if isinstance(outcome, OutcomeUnknown) and outcome.published is not None:
            return _under_way(outcome.published, request.owner_id)
        if isinstance(outcome, InvalidCommand):
            return Answer(422, {"detail": str(outcome)}, {})
        _log.warning("%s", outcome)
        if isinstance(outcome, PublishInDoubt):
            text = (
                f"Kafka did not acknowledge the command {outcome.command_id}: it may or may not be carried out; "
                "try again with the same Idempotency-Key, or with the same nonce"
            )
            return _unavailable(text, outcome.command_id)
        return _unavailable("the command was not published: Kafka is away")

    def _decided(self, request: EntryRequest, event: RecordedEvent, keyed: bool) -> Answer:
        self._note_position(event.position, event.owner_id)
        headers = {POSITION_HEADER: str(event.position), COMMAND_ID_HEADER: str(event.command_id)}
        differs = difference(request, event, self._rules) if keyed else None
        if differs is not None:
            return Answer(422, {"detail": f"Idempotency-Key was used for another request: {differs}"}, headers)
        if event.accepted:
            return Answer(200, _body(EntryPosted(entry=Entry.of(event), balance=event.balance_after)), headers)
        headers[REASON_HEADER] = event.reason or ""
        return Answer(400, {"detail": refusal_text(event)}, headers)


def refusal_text(event: RecordedEvent) -> str:
    """What HTTP says about a rejection."""
    detail = event.detail or ""
    match event.reason:
        case Reason.DUPLICATE_NONCE:
            return f"Transaction with nonce {event.nonce} already exists"
        case Reason.UNKNOWN_OPERATION:
            return f"Invalid operation: {event.operation}"
        case Reason.OPERATION_NOT_ALLOWED:
            return f"Operation not allowed: {detail}"
        case Reason.UNKNOWN_CREDIT_TYPE:
            return f"Unknown credit type: {event.credit_type}"
        case Reason.INVALID_AMOUNT:
            return f"Invalid amount: {detail}"
        case Reason.EXPIRED:
            return f"Expired: {detail}"
        case Reason.INSUFFICIENT_CREDITS:
            return f"Insufficient credits: {detail}"
        case Reason.BALANCE_OVERFLOW:
            return f"Balance overflow: {detail}"
        case _:
            return f"{event.reason}: {detail}"


def location_of(published: Published, owner_id: str) -> str:
    """Where to ask what became of a published command."""
    at = f"{published.topic}:{published.partition}:{published.offset}"
    return f"/commands/{published.command_id}?owner_id={quote(owner_id, safe='')}&at={quote(at, safe=':')}"


def _under_way(published: Published, owner_id: str) -> Answer:
    location = location_of(published, owner_id)
    body = _body(StillUnderWay(command_id=published.command_id, location=location))
    return Answer(202, body, {"Location": location, COMMAND_ID_HEADER: str(published.command_id)})


def _unavailable(text: str, command_id: UUID | None = None) -> Answer:
    headers = {"Retry-After": str(RETRY_AFTER_S)}
    if command_id is not None:
        headers[COMMAND_ID_HEADER] = str(command_id)
    return Answer(503, {"detail": text}, headers)


def _body(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json")
