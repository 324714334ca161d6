"""An app's handlers and which events each of them wants."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ledger.domain.event import RecordedEvent

Handler = Callable[[RecordedEvent], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One handler and its filter; what is None is not looked at."""

    handler: Handler
    type: str | None
    app: str | None
    operation: str | None
    credit_type: str | None

    @property
    def name(self) -> str:
        """What messages call the handler."""
        return getattr(self.handler, "__qualname__", type(self.handler).__qualname__)

    def wants(self, event: RecordedEvent) -> bool:
        """Whether the event passes the filter. A type that the app does not name passes by unhandled."""
        return (
            self.type in {None, event.type}
            and self.app in {None, event.app}
            and self.operation in {None, event.operation}
            and self.credit_type in {None, event.credit_type}
        )


class Handlers:
    """The handlers of one subscriber, in the order in which they were declared."""

    def __init__(self) -> None:
        self._routes: list[Route] = []

    def __len__(self) -> int:
        return len(self._routes)

    def add(self, route: Route) -> None:
        """Declare a handler.

        Raises:
            TypeError: it is no async function. Code that blocks would keep the whole program from answering Kafka.
        """
        call = getattr(route.handler, "__call__", None)  # noqa: B004  an object with an async __call__ will do
        if not (inspect.iscoroutinefunction(route.handler) or inspect.iscoroutinefunction(call)):
            raise TypeError(
                f"{route.name} must be an async function; use asyncio.to_thread inside it for code that blocks"
            )
        self._routes.append(route)

    def wanting(self, event: RecordedEvent) -> tuple[Route, ...]:
        """Those that want this event."""
        return tuple(route for route in self._routes if route.wants(event))
