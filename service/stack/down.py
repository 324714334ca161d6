"""Stopping, from another shell, whatever runs from a home."""

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

from service.stack.compose import remove_volumes
from service.stack.interface import Addresses, Report, StackError
from service.stack.local import folders_of
from service.stack.resolver import stack_of
from service.stack.state import last_used, lock_holder, running_stack

_ENDS_WITHIN_S = 60.0
_PAUSE_S = 0.1


async def stop_running(home: Path, report: Report) -> bool:
    """Asks the program that runs a ledger from this home to stop (SIGTERM: it stops everything in order),
    waits for it, and stops the servers that are left over. Returns whether anything was running.

    Raises:
        StackError: The program does not end within the limit.
    """
    found = False
    holder = lock_holder(home)
    if holder is not None and holder != os.getpid():
        found = True
        report(f"asking process {holder} to stop")
        os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + _ENDS_WITHIN_S
        while lock_holder(home) is not None:
            if time.monotonic() > deadline:
                raise StackError(f"process {holder} did not stop within {_ENDS_WITHIN_S:g} s: kill -9 {holder}")
            await asyncio.sleep(_PAUSE_S)
    running = running_stack(home)
    if running is not None:
        found = True
        await stack_of(home, running.stack, running.addresses).stop(report)
    elif _was_begun(home):
        found = True
        await stack_of(home, "local", Addresses("", "")).stop(report)
    return found


def _was_begun(home: Path) -> bool:
    # A start that was killed before it could leave its addresses.
    return any(home.glob("*/pid.json"))


async def remove_state(home: Path, report: Report) -> None:
    """Stops what runs from this home and deletes everything that is kept in it, the ledger's data included.

    Raises:
        StackError: See `stop_running`.
    """
    await stop_running(home, report)
    if last_used(home) == "docker":
        await remove_volumes(report)
    for folder in folders_of(home):
        if folder.exists():
            report(f"deleting {folder}")
            shutil.rmtree(folder)
