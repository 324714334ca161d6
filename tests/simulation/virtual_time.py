"""An event loop whose time is virtual: waiting costs nothing, and a run is the same every time."""

import asyncio
import gc
import selectors
from collections.abc import Coroutine
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")

EVENTS_MAX: Final = 2_000_000
"""Turns of one run's loop: more means that something spins without waiting."""

LAST_WORDS_MAX: Final = 20
"""How often a dead coroutine is closed whose clean-up waits for something."""


class SpinningError(Exception):
    """The loop turned too often without an end."""


class _NoSelector(selectors.BaseSelector):
    """There is no I/O: waiting for it moves the clock instead."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return selectors.SelectorKey(fileobj, 0, 0, None)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.turns += 1
        if self._loop.turns > EVENTS_MAX:
            raise SpinningError(f"{EVENTS_MAX} turns at {self._loop.time():.3f} s")
        if timeout is None:
            raise SpinningError(f"everything waits for something that cannot come, at {self._loop.time():.3f} s")
        if timeout > 0:
            self._loop.now += timeout
        return []

    def get_map(self) -> Any:
        return {}


class VirtualLoop(asyncio.SelectorEventLoop):
    """`time()` begins at 0 and moves only when everybody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.turns = 0
        super().__init__(_NoSelector(self))

    def time(self) -> float:
        return self.now

    def _make_self_pipe(self) -> None:  # no other thread ever wakes this loop
        self._ssock = self._csock = None

    def _close_self_pipe(self) -> None:
        return


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run to the end in virtual time; tasks that are left are dropped where they stand, as a crash would."""
    loop = VirtualLoop()
    loop.set_exception_handler(lambda _loop, _context: None)  # what dies in a simulated crash need not be told
    asyncio.set_event_loop(loop)
    collecting = gc.isenabled()
    gc.disable()  # what it finds dead would say its last words inside of whichever task runs just then
    try:
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # they are abandoned on purpose
            _bury(cast("Coroutine[Any, Any, Any]", task.get_coro()))
        loop.close()
        if collecting:
            gc.enable()


def _bury(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Here and now: left to the collector, it would be closed in the middle of the next seed, and a time limit in its
    clean-up would cancel the task that runs there."""
    for _ in range(LAST_WORDS_MAX):
        try:
            coroutine.close()
        except Exception:  # its clean-up waits for something, or raised: it is dead
            continue
        return
