"""For a service that many apps use: the API key decides as which app a command is published."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from fastapi import HTTPException, Request

from ledger.domain.rules import OperationRule
from producers.client import LedgerClient
from producers.command_request import CommandRequest
from producers.doors.caller import caller_of
from producers.errors import LedgerError
from producers.http_answers import HttpAnswers, Submitter
from producers.outcome import Outcome


class ClientWhenNeeded:
    """`Submitter` of an app that may never call: its client is opened at its first command."""

    def __init__(self, app: str, open_client: Callable[[], Awaitable[LedgerClient]]) -> None:
        """`open_client` answers an open client, which its caller closes."""
        self._app = app
        self._open_client = open_client
        self._opening: asyncio.Task[LedgerClient] | None = None

    @property
    def app(self) -> str:
        """See Submitter."""
        return self._app

    async def submit_many(
        self, requests: Sequence[CommandRequest], *, wait_s: float | None = None
    ) -> list[Outcome | LedgerError]:
        """See Submitter. Raises LedgerError when the client cannot be opened; the next call tries again."""
        return await (await self._client()).submit_many(requests, wait_s=wait_s)

    async def _client(self) -> LedgerClient:
        failed = self._opening is not None and self._opening.done() and self._opening.exception() is not None
        if self._opening is None or failed:
            self._opening = asyncio.create_task(self._open())
        # One opening for all; a caller who goes away does not end it for the others.
        return await asyncio.shield(self._opening)

    async def _open(self) -> LedgerClient:
        return await self._open_client()


class AnswersByApp:
    """Finds the answers of the app whose key is shown."""

    def __init__(
        self,
        own: HttpAnswers,
        rules: Mapping[str, Mapping[str, OperationRule]],
        submitter: Callable[[str], Submitter],
    ) -> None:
        """
        Args:
            own: of the app as which the service publishes where no keys are asked for.
            rules: all registered apps and their operations.
            submitter: the way of an app's commands.
        """
        self._own = own
        self._by_app = {
            app: own if app == own.app else own.through(submitter(app), operations) for app, operations in rules.items()
        }

    async def of_caller(self, request: Request) -> HttpAnswers:
        """The answers of the caller's app. Raises HTTPException 403 when that is not registered here."""
        caller = caller_of(request.scope)
        if caller is None:
            return self._own
        answers = self._by_app.get(caller.app)
        if answers is None:
            raise HTTPException(403, f"The API key is one of the app {caller.app}, which is not registered here")
        return answers
