"""The example app's own routes: content that costs credits to create, and credits for those who come back."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

from fastapi import APIRouter, Body, Depends, HTTPException, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from apps.example_app.content import ContentStore, ContentStoreAwayError
from ledger.domain.limits import NONCE_CHARACTERS_MAX
from ledger.messages.command_ids import derived_command_id, new_command_id
from ledger.messages.command_model import OwnerId
from producers.http_answers import RETRY_AFTER_S, HttpAnswers
from producers.http_models import EntryPosted, EntryRequest, ErrorBody
from producers.http_router import RESPONSES, IdempotencyKey
from producers.strict_json_route import StrictJsonRoute

TITLE_CHARACTERS_MAX: Final = 200
BODY_CHARACTERS_MAX: Final = 20_000
CONTENT_ID_CHARACTERS_MAX: Final = 64
BODY_BYTES_MAX: Final = 256 * 1024

Answer = TypeVar("Answer")
Owner = Annotated[OwnerId, Query(description="Who acts, and whose credits are changed.", examples=["ada"])]
ContentId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=CONTENT_ID_CHARACTERS_MAX,
        pattern=r"^[A-Za-z0-9._-]+$",
        description="As POST /content answered it.",
        examples=["019c1409-3d80-7000-8000-5f6f1c2d3e4f"],
    ),
]


class ContentDraft(BaseModel):
    """What an author writes."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Annotated[str, Field(min_length=1, max_length=TITLE_CHARACTERS_MAX, pattern=r"^[^\x00]*$")] = "Untitled"
    body: Annotated[str, Field(max_length=BODY_CHARACTERS_MAX, pattern=r"^[^\x00]*$")] = ""


class ContentPosted(EntryPosted):
    """The answer to paid content."""

    content_id: str


class ContentBody(BaseModel):
    """Content that everybody can see."""

    content_id: str
    owner_id: str
    title: str
    body: str
    created_at: datetime
    position: Annotated[str, Field(description="Where its debit was posted.")]


class Notice(BaseModel):
    """The balance fell below what one piece of content costs."""

    owner_id: str
    position: str
    balance: int
    occurred_at: datetime


class Notices(BaseModel):
    """Newest first."""

    notices: list[Notice]


_AWAY: Final[dict[int | str, dict[str, Any]]] = {503: {"model": ErrorBody, "description": "Postgres is away."}}


def example_router(
    answers: HttpAnswers, store: ContentStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> APIRouter:
    """The routes. `now` tells the day of a daily reward."""
    router = APIRouter(
        route_class=StrictJsonRoute,
        max_body_size=BODY_BYTES_MAX,
        tags=["example app"],
        dependencies=[Depends(answers.of_caller)],  # an API key of another app opens none of these
    )

    def write(path: str, summary: str, answer: type[BaseModel] = EntryPosted) -> Callable[[Any], Any]:
        responses = {**RESPONSES, 200: {**RESPONSES[200], "model": answer}}
        return router.post(path, summary=summary, response_model=None, responses=responses)

    @write("/signup", "Sign up: three credits, once")
    async def signup(owner_id: Owner, idempotency_key: IdempotencyKey = None) -> JSONResponse:
        """Welcome a new owner with three credits. A second signup of the same owner is refused (400): the nonce
        `signup_{owner_id}` is used."""
        request = EntryRequest(operation="SIGNUP_CREDIT", owner_id=owner_id, nonce=_nonce("signup", owner_id))
        return (await answers.one(request, idempotency_key)).response()

    @write("/daily-reward", "Come back: one credit a day")
    async def daily_reward(owner_id: Owner, idempotency_key: IdempotencyKey = None) -> JSONResponse:
        """One credit per owner and day (UTC). A second one on the same day is refused (400)."""
        nonce = _nonce("daily", owner_id, f"{now().astimezone(UTC):%Y-%m-%d}")
        request = EntryRequest(operation="DAILY_REWARD", owner_id=owner_id, nonce=nonce)
        return (await answers.one(request, idempotency_key)).response()

    @write("/content", "Create content: costs five credits", ContentPosted)
    async def create_content(
        owner_id: Owner,
        draft: Annotated[ContentDraft | None, Body()] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> JSONResponse:
        """Keep the content and pay for it. It becomes visible when the app's subscriber sees the debit in the ledger's
        events: until then `GET /content/{content_id}` answers 404, and after a refusal for ever."""
        draft = draft or ContentDraft()
        content_id = str(_id_of(answers.app, owner_id, idempotency_key, "content"))
        await _reached(store.keep_draft(content_id, owner_id, draft.title, draft.body))
        request = EntryRequest(
            operation="CONTENT_CREATION",
            owner_id=owner_id,
            nonce=f"content_{content_id}",
            metadata={"content_id": content_id, "title": draft.title},
        )
        answer = await answers.one(request, idempotency_key)
        body = {**answer.body, "content_id": content_id} if answer.status == 200 else answer.body
        return JSONResponse(body, answer.status, answer.headers)

    @write("/content/{content_id}/access", "Read content: free, but recorded")
    async def access_content(
        content_id: ContentId, owner_id: Owner, idempotency_key: IdempotencyKey = None
    ) -> JSONResponse:
        """Record that the owner has read the content: an entry of 0 credits."""
        access_id = _id_of(answers.app, owner_id, idempotency_key, "access", content_id)
        request = EntryRequest(
            operation="CONTENT_ACCESS",
            owner_id=owner_id,
            nonce=f"access_{access_id}",
            metadata={"content_id": content_id},
        )
        return (await answers.one(request, idempotency_key)).response()

    @router.get(
        "/content/{content_id}",
        summary="See content",
        responses={404: {"model": ErrorBody, "description": "No such content, or not paid for yet."}, **_AWAY},
    )
    async def get_content(content_id: ContentId) -> ContentBody:
        """Content whose debit was posted."""
        content = await _reached(store.find_visible(content_id))
        if content is None:
            raise HTTPException(404, f"There is no content {content_id} that has been paid for")
        return ContentBody(
            content_id=content.content_id,
            owner_id=content.owner_id,
            title=content.title,
            body=content.body,
            created_at=content.created_at,
            position=content.position,
        )

    @router.get("/notices", summary="Who runs out of credits?", responses=_AWAY)
    async def get_notices(owner_id: Owner) -> Notices:
        """The owner's notices, one for each time that the balance fell below the cost of content."""
        return Notices(
            notices=[
                Notice(
                    owner_id=notice.owner_id,
                    position=str(notice.position),
                    balance=notice.balance,
                    occurred_at=notice.occurred_at,
                )
                for notice in await _reached(store.list_notices(owner_id))
            ]
        )

    return router


def _nonce(action: str, owner_id: str, day: str | None = None) -> str:
    """A nonce counts for one owner only, so the end of a long owner id can be left out without any danger."""
    end = "" if day is None else f"_{day}"
    return f"{action}_{owner_id}"[: NONCE_CHARACTERS_MAX - len(end)] + end


def _id_of(app: str, owner_id: str, idempotency_key: str | None, *what: str) -> UUID:
    """The same id for the same key, so that a retry is about the same content; a new one without a key."""
    if idempotency_key is None:
        return new_command_id()
    return derived_command_id(app, owner_id, idempotency_key, *what)


async def _reached(call: Awaitable[Answer]) -> Answer:
    try:
        return await call
    except ContentStoreAwayError as error:
        detail = "the content store cannot be reached: Postgres is away"
        raise HTTPException(503, detail, headers={"Retry-After": str(RETRY_AFTER_S)}) from error
