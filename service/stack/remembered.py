"""A stack that other programs find by its home, and that only one program at a time runs from it."""

from pathlib import Path

from service.stack.interface import Addresses, Report, ServerStatus, Stack, StackName
from service.stack.state import HomeLock, RunningStack, forget_running, remember_running, remember_used


class RememberedStack:
    """Holds the home's lock from start to stop and keeps its addresses in `stack.json` meanwhile."""

    def __init__(self, stack: Stack, home: Path) -> None:
        self._stack = stack
        self._home = home
        self._lock = HomeLock(home)

    @property
    def name(self) -> StackName:
        return self._stack.name

    async def start(self, report: Report) -> Addresses:
        """See `Stack.start`. Raises StackError also when another program runs a ledger from this home."""
        self._lock.acquire()
        try:
            addresses = await self._stack.start(report)
            remember_running(self._home, RunningStack(self.name, addresses))
            remember_used(self._home, self.name)
        except BaseException:  # Ctrl-C included
            self._lock.release()
            raise
        return addresses

    async def stop(self, report: Report) -> None:
        """See `Stack.stop`."""
        await self._stack.stop(report)
        forget_running(self._home)
        self._lock.release()

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """See `Stack.status`."""
        return await self._stack.status()
