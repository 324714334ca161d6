"""The client for scripts: the same calls, without asyncio."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from producers.client import OUTCOME_WAIT_S, PUBLISH_WAIT_S, LedgerClient
from producers.command_request import CommandRequest
from producers.connection import Connection
from producers.errors import ClientClosed, LedgerError
from producers.outcome import Outcome, Published

ABANDONED_WAIT_S: Final = 5.0

Result = TypeVar("Result")


class SyncLedgerClient:
    """`LedgerClient` on an event loop of its own, in a thread of its own. See there for what the calls mean.

    Calls block; several threads may share one client, and then the order is the order in which their calls began.

    Example:
        with SyncLedgerClient(app="shop", kafka_bootstrap_servers="localhost:9092") as ledger:
            print(ledger.submit("CREDIT_ADD", owner_id="user-42", nonce="top-up-7", amount=500).balance)
    """

    def __init__(
        self,
        app: str,
        kafka_bootstrap_servers: str | None = None,
        *,
        security: KafkaSecurity = NO_SECURITY,
        topic_prefix: str = "ledger",
        publish_wait_s: float = PUBLISH_WAIT_S,
        outcome_wait_s: float = OUTCOME_WAIT_S,
        connection: Connection | None = None,
    ) -> None:
        """No I/O: the connection is made by `with`. Arguments as for `LedgerClient`."""
        self._client: Final = LedgerClient(
            app,
            kafka_bootstrap_servers,
            security=security,
            topic_prefix=topic_prefix,
            publish_wait_s=publish_wait_s,
            outcome_wait_s=outcome_wait_s,
            connection=connection,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Connect. Raises as `LedgerClient` does."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ledger-client", daemon=True)
        self._thread.start()
        try:
            self._run(self._client.__aenter__())
        except BaseException:
            self._end_loop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Send what is on its way and disconnect."""
        try:
            self._run(self._client.__aexit__(kind, error, traceback))
        finally:
            self._end_loop()

    def publish(
        self,
        operation: str,
        owner_id: str,
        nonce: str,
        amount: int | None = None,
        *,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
        not_after: datetime | None = None,
        command_id: UUID | None = None,
        issued_at: datetime | None = None,
    ) -> Published:
        """See `LedgerClient.publish`."""
        return self._run(
            self._client.publish(
                operation,
                owner_id,
                nonce,
                amount,
                credit_type=credit_type,
                metadata=metadata,
                not_after=not_after,
                command_id=command_id,
                issued_at=issued_at,
            )
        )

    def publish_many(self, requests: Iterable[CommandRequest]) -> list[Published | LedgerError]:
        """See `LedgerClient.publish_many`."""
        return self._run(self._client.publish_many(requests))

    def submit(
        self,
        operation: str,
        owner_id: str,
        nonce: str,
        amount: int | None = None,
        *,
        credit_type: str = DEFAULT_CREDIT_TYPE,
        metadata: Mapping[str, Any] | None = None,
        not_after: datetime | None = None,
        command_id: UUID | None = None,
        issued_at: datetime | None = None,
        wait_s: float | None = None,
    ) -> Outcome:
        """See `LedgerClient.submit`."""
        return self._run(
            self._client.submit(
                operation,
                owner_id,
                nonce,
                amount,
                credit_type=credit_type,
                metadata=metadata,
                not_after=not_after,
                command_id=command_id,
                issued_at=issued_at,
                wait_s=wait_s,
            )
        )

    def submit_many(
        self, requests: Iterable[CommandRequest], *, wait_s: float | None = None
    ) -> list[Outcome | LedgerError]:
        """See `LedgerClient.submit_many`."""
        return self._run(self._client.submit_many(requests, wait_s=wait_s))

    def _run(self, call: Coroutine[Any, Any, Result]) -> Result:
        if self._loop is None:
            call.close()
            raise ClientClosed("the client is not open: use it inside `with SyncLedgerClient(...) as ledger:`")
        running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result()
        except BaseException:
            running.cancel()  # Ctrl-C in a script: what was not handed over to Kafka yet is withdrawn
            raise

    def _end_loop(self) -> None:
        loop, self._loop = self._loop, None
        thread, self._thread = self._thread, None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_cancel_all_others(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


async def _cancel_all_others() -> None:
    """What was abandoned by its limit may still run: a loop must not be closed over it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=ABANDONED_WAIT_S)
