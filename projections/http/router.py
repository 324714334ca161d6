"""The HTTP routes for queries and health."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, StringConstraints

from ledger.domain.limits import (
    CREDIT_TYPE_CHARACTERS_MAX,
    DEFAULT_CREDIT_TYPE,
    OWNER_ID_CHARACTERS_MAX,
    SEQUENCE_BITS,
)
from ledger.domain.position import Position
from ledger.event_store.protocol import RecordMismatchError, StoreUnavailableError
from projections.balances.queries import OWNERS_IN_BATCH_MAX
from projections.http.models import (
    BalanceBody,
    BalancesBody,
    EntriesBody,
    Healthy,
    QueryErrorBody,
    ReadyBody,
    ReadySummary,
)
from projections.queries import Queries
from projections.read_your_writes import RETRY_AFTER_S, StaleReadError
from projections.statements.queries import PAGE_LINES_MAX

LEDGER_POSITION: Final = "Ledger-Position"
"""The header that carries a position: of a write's answer, of a read's answer, and what a read must contain."""

PAGE_LINES_DEFAULT: Final = 50
SUMMARY_FRESH_S: Final = 1.0
"""How old what strangers are told of the ledger's readiness may be."""

_SEQUENCE_MAX: Final = 2**SEQUENCE_BITS - 1

OwnerId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=OWNER_ID_CHARACTERS_MAX,
        pattern=r"^[^\x00]*$",
        description="Whose credits.",
        examples=["user-42"],
    ),
]
OwnerIdText = Annotated[str, StringConstraints(min_length=1, max_length=OWNER_ID_CHARACTERS_MAX, pattern=r"^[^\x00]*$")]
CreditType = Annotated[
    str, Query(min_length=1, max_length=CREDIT_TYPE_CHARACTERS_MAX, pattern=r"^[^\x00]*$", description="Which account.")
]
_POSITION_PATTERN: Final = {"pattern": r"^[0-9]{1,10}:[0-9]{1,13}$"}
"""For the documentation; what is wrong with another text is said in better words than that it does not match."""

_POSITION_HEADER: Final[dict[str, Any]] = {
    LEDGER_POSITION: {
        "description": "The last event of the owner's partition that the answer contains.",
        "schema": {"type": "string", "examples": ["3:17"]},
    }
}
_UNAVAILABLE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"headers": _POSITION_HEADER},
    503: {
        "model": QueryErrorBody,
        "description": "Postgres is away, or the read model did not reach the position in time: nothing old is shown.",
        "headers": {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}},
    },
}
_UNAVAILABLE_TO_MANY: Final[dict[int | str, dict[str, Any]]] = {503: _UNAVAILABLE[503]}
_Answer = TypeVar("_Answer")


def _position(location: tuple[str, str], text: str | None) -> Position | None:
    if text is None:
        return None
    try:
        position = Position.parse(text)
        if position.sequence > _SEQUENCE_MAX:
            raise ValueError(f"not a position: {text!r}; no sequence is that large")
    except ValueError as error:
        raise RequestValidationError(
            [{"type": "value_error", "loc": location, "msg": str(error), "input": text}]
        ) from error
    return position


# Asynchronous, though it waits for nothing: another function would be run in a thread, for 0.1 ms of CPU a read.
async def _required_positions(
    min_position: Annotated[
        str | None,
        Query(
            description="The position of a write (`partition:sequence`): the answer contains it, or is a 503.",
            examples=["3:17"],
            json_schema_extra=_POSITION_PATTERN,
        ),
    ] = None,
    ledger_position: Annotated[
        str | None,
        Header(
            alias=LEDGER_POSITION,
            description="The same as `min_position`.",
            examples=["3:17"],
            json_schema_extra=_POSITION_PATTERN,
        ),
    ] = None,
) -> list[Position]:
    named = (
        _position(("query", "min_position"), min_position),
        _position(("header", LEDGER_POSITION), ledger_position),
    )
    return [position for position in named if position is not None]


RequiredPositions = Annotated[list[Position], Depends(_required_positions)]


async def _required_positions_of_many(
    min_position: Annotated[
        list[Annotated[str, Field(json_schema_extra=_POSITION_PATTERN)]] | None,
        Query(
            max_length=OWNERS_IN_BATCH_MAX,
            description="Positions of writes (`partition:sequence`), once for each: the answer contains them, or is a "
            "503.",
            examples=[["3:17", "5:2"]],
        ),
    ] = None,
    ledger_position: Annotated[
        str | None,
        Header(
            alias=LEDGER_POSITION,
            description="The same as one `min_position`.",
            examples=["3:17"],
            json_schema_extra=_POSITION_PATTERN,
        ),
    ] = None,
) -> list[Position]:
    named = [_position(("query", "min_position"), text) for text in min_position or ()]
    named.append(_position(("header", LEDGER_POSITION), ledger_position))
    return [position for position in named if position is not None]


def create_query_router(
    queries: Queries,
    is_stranger: Callable[[Request], bool] = lambda _: False,
    charge: Callable[[Request, int], None] = lambda _, __: None,
) -> APIRouter:
    """The routes, reading from `queries`, which the caller opens in its lifespan and keeps open while it serves.

    Args:
        queries: what is read from.
        is_stranger: who learns from /health/ready no more than whether all is well.
        charge: counts what a request does beyond the one thing that every request does; raises HTTPException where it
            is more than the caller may do now.
    """
    router = APIRouter()
    for_strangers = _SummaryForStrangers(queries)

    @router.get("/health", tags=["health"], summary="Does this process answer?")
    async def health() -> Healthy:
        """Answers without asking anybody else: for a supervisor that restarts what hangs."""
        return Healthy()

    @router.get(
        "/health/ready",
        tags=["health"],
        summary="How are Kafka, Postgres, the ledger consumers and the read models?",
        responses={503: {"model": ReadyBody | ReadySummary, "description": "At least one part is failing."}},
    )
    async def ready(request: Request, response: Response) -> ReadyBody | ReadySummary:
        """For a load balancer, and for people who want to know why nothing moves. Who shows no API key where one is
        asked for learns the status only."""
        body: ReadyBody | ReadySummary
        if is_stranger(request):
            body = await for_strangers.read()
        else:
            body = ReadyBody.of(await queries.health.read())
        if body.status != "ready":
            response.status_code = 503
        return body

    async def balance(
        owner_id: OwnerId,
        response: Response,
        min_positions: RequiredPositions,
        credit_type: CreditType = DEFAULT_CREDIT_TYPE,
    ) -> BalanceBody:
        """What the owner has of one credit type; 0 for an owner who is not known.

        Contains every write that this service has answered, and the position that the request names.
        """
        owner = await _answered(queries.balances.of_owner(owner_id, min_positions))
        response.headers[LEDGER_POSITION] = str(owner.position)
        return BalanceBody.of(owner, credit_type)

    for path, name in (
        ("/balance/{owner_id:path}", "balance"),
        ("/ledger/{owner_id:path}/balance", "ledger_balance"),
    ):
        router.get(path, tags=["queries"], summary="An owner's balance", responses=_UNAVAILABLE, name=name)(balance)

    @router.get("/balances", tags=["queries"], summary="Balances of several owners", responses=_UNAVAILABLE_TO_MANY)
    async def balances(
        request: Request,
        owner_ids: Annotated[
            list[OwnerIdText],
            Query(
                alias="owner_id",
                min_length=1,
                max_length=OWNERS_IN_BATCH_MAX,
                description=f"Whose credits, once for each owner; at most {OWNERS_IN_BATCH_MAX}.",
                examples=[["user-42", "user-43"]],
            ),
        ],
        min_positions: Annotated[list[Position], Depends(_required_positions_of_many)],
        credit_type: CreditType = DEFAULT_CREDIT_TYPE,
    ) -> BalancesBody:
        """What each of them has of one credit type, in one read: all of one moment.

        Contains every write that this service has answered, and the positions that the request names. Each owner counts
        as one request of the API key.
        """
        if len(owner_ids) > 1:
            charge(request, len(owner_ids) - 1)  # the request itself was counted at the door
        found = await _answered(queries.balances.of_owners(owner_ids, min_positions))
        return BalancesBody(balances=[BalanceBody.of(found[owner_id], credit_type) for owner_id in owner_ids])

    @router.get(
        "/ledger/{owner_id:path}/entries",
        tags=["queries"],
        summary="An owner's entries, newest first",
        responses=_UNAVAILABLE,
    )
    async def entries(
        owner_id: OwnerId,
        response: Response,
        min_positions: RequiredPositions,
        limit: Annotated[int, Query(ge=1, le=PAGE_LINES_MAX, description="Entries on a page.")] = PAGE_LINES_DEFAULT,
        before: Annotated[
            str | None,
            Query(
                description="`next_before` of the page before this one.",
                examples=["3:17"],
                json_schema_extra=_POSITION_PATTERN,
            ),
        ] = None,
        include_rejected: Annotated[bool, Query(description="Refused commands too, marked by `reason`.")] = False,
        credit_type: Annotated[
            str | None,
            Query(
                min_length=1,
                max_length=CREDIT_TYPE_CHARACTERS_MAX,
                pattern=r"^[^\x00]*$",
                description="Entries of this credit type only.",
            ),
        ] = None,
    ) -> EntriesBody:
        """One page; new entries never move what later pages show.

        Contains every write that this service has answered, and the position that the request names.
        """
        page = await _answered(
            queries.statements.page(
                owner_id,
                limit=limit,
                before=_position(("query", "before"), before),
                with_rejections=include_rejected,
                credit_type=credit_type,
                min_positions=min_positions,
            )
        )
        response.headers[LEDGER_POSITION] = str(page.position)
        return EntriesBody.of(owner_id, page)

    return router


class _SummaryForStrangers:
    """What strangers may ask as often as they like: everything is asked for them once in a while."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._asking = asyncio.Lock()
        self._asked_at: float | None = None
        self._summary = ReadySummary(status="not ready")

    async def read(self) -> ReadySummary:
        loop = asyncio.get_running_loop()
        async with self._asking:
            if self._asked_at is None or loop.time() - self._asked_at >= SUMMARY_FRESH_S:
                health = await self._queries.health.read()
                self._summary = ReadySummary(status="ready" if health.ready else "not ready")
                self._asked_at = loop.time()
        return self._summary


async def _answered(read: Awaitable[_Answer]) -> _Answer:
    try:
        return await read
    except (StaleReadError, StoreUnavailableError, RecordMismatchError) as error:
        raise HTTPException(503, str(error), headers={"Retry-After": str(RETRY_AFTER_S)}) from error
