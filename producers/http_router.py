"""The HTTP routes for commands: what an app without a Kafka client posts to."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Depends, Header, Request
from fastapi.responses import JSONResponse

from producers.doors.caller import caller_of
from producers.http_answers import POSITION_HEADER, AnswersOfCaller, HttpAnswers
from producers.http_models import (
    BatchResults,
    EntryBatch,
    EntryPosted,
    EntryRequest,
    ErrorBody,
    InvalidRequest,
    StillUnderWay,
)
from producers.idempotency import IDEMPOTENCY_KEY_CHARACTERS_MAX
from producers.strict_json_route import StrictJsonRoute

BODY_BYTES_MAX: Final = 8 * 2**20
"""Largest body: 1,000 commands of the largest size fit in."""

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=IDEMPOTENCY_KEY_CHARACTERS_MAX,
        description=(
            "Send the same key again to get the first answer again, without a second effect. The same key with another "
            "request is refused (422). Without it every request is a new command, and a used nonce is refused (400)."
        ),
    ),
]

_POSITION: Final = {
    POSITION_HEADER: {
        "description": "Where the decision is recorded; send it along with a read to see the decision's effect.",
        "schema": {"type": "string", "examples": ["3:17"]},
    }
}

RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": EntryPosted, "description": "Accepted and recorded.", "headers": _POSITION},
    202: {
        "model": StillUnderWay,
        "description": "In Kafka, and not decided within the limit. It will be: ask at `Location`.",
        "headers": {"Location": {"description": "Where to ask.", "schema": {"type": "string"}}},
    },
    400: {
        "model": ErrorBody,
        "description": "Refused by the ledger; the refusal is recorded. The header `Ledger-Reason` names the reason.",
        "headers": _POSITION,
        "content": {
            "application/json": {
                "examples": {
                    name: {"value": {"detail": text}}
                    for name, text in {
                        "DUPLICATE_NONCE": "Transaction with nonce order-1001 already exists",
                        "UNKNOWN_OPERATION": "Invalid operation: CREDIT_SPNED",
                        "INSUFFICIENT_CREDITS": "Insufficient credits: 3 available, 250 needed",
                        "INVALID_AMOUNT": "Invalid amount: must be negative, got 250",
                    }.items()
                }
            }
        },
    },
    413: {"description": "The body is too large."},
    422: {"model": InvalidRequest, "description": "Not of the documented form; nothing was sent."},
    503: {
        "model": ErrorBody,
        "description": "Kafka is away; the text says whether the command may have been sent. Try again.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
}
"""What every route that submits one command can answer; for an app's own routes too."""

_BATCH_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": BatchResults,
        "description": "One result per command, in order: look at each `status`.",
    },
    413: RESPONSES[413],
    422: RESPONSES[422],
}


def command_router(answers: AnswersOfCaller) -> APIRouter:
    """The routes `POST /ledger`, `POST /ledger/entry` and `POST /ledger/entries`."""
    of_caller = Depends(answers.of_caller)
    router = APIRouter(route_class=StrictJsonRoute, max_body_size=BODY_BYTES_MAX, tags=["commands"])

    async def post_entry(
        request: EntryRequest, idempotency_key: IdempotencyKey = None, answers: HttpAnswers = of_caller
    ) -> JSONResponse:
        """Change one owner's account, and answer with the entry and the new balance.

        Amounts are signed: `CREDIT_SPEND` takes `-250`. The nonce makes a business action happen at most once per
        owner; an `Idempotency-Key` makes a retry of the request safe, and answers it as the first time.
        """
        return (await answers.one(request, idempotency_key)).response()

    for path, name in (("/ledger/entry", "post_entry"), ("/ledger", "post_ledger")):
        router.add_api_route(
            path,
            post_entry,
            methods=["POST"],
            operation_id=name,
            summary="Submit a command",
            response_model=None,
            responses=RESPONSES,
        )

    @router.post(
        "/ledger/entries", summary="Submit up to 1,000 commands", response_model=None, responses=_BATCH_RESPONSES
    )
    async def post_entries(
        request: Request,
        batch: Annotated[EntryBatch, Body()],
        idempotency_key: IdempotencyKey = None,
        answers: HttpAnswers = of_caller,
    ) -> JSONResponse:
        """Submit commands in order. One command's refusal stops no other: each has a result of its own.

        An `Idempotency-Key` covers the whole batch: send the same batch again to get the same answers.
        """
        caller = caller_of(request.scope)
        if caller is not None and len(batch.entries) > 1:
            caller.allowance.charge(len(batch.entries) - 1)  # the request itself was counted at the door
        results = await answers.many(batch.entries, idempotency_key)
        body = {"results": [{"status": answer.status, "body": answer.body} for answer in results]}
        return JSONResponse(body)

    return router
