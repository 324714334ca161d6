"""Memory of everything that `make run` starts on local processes, when nobody uses it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from benchmarks.commands import OPERATIONS
from benchmarks.figures import Figures
from benchmarks.ledger_process import MeasurementError
from benchmarks.meters import MEGABYTE, pss_bytes
from benchmarks.servers import Say
from benchmarks.sizes import Sizes
from service.stack import remove_state
from service.stack.ports import choose_free

READY_LIMIT_S: Final = 120.0
STOP_LIMIT_S: Final = 60.0
READ_EVERY_S: Final = 1.0
_READY: Final = "ready http"


async def measure_idle(home: Path, sizes: Sizes, into: Figures, say: Say) -> None:
    """Start it on a ledger of its own, wait, read as often as there are runs, stop it."""
    try:
        async with _up(home) as pid:
            await asyncio.sleep(sizes.idle_settle_s)
            for _ in range(sizes.runs):
                by_name = _processes(pid)
                sizes_mb = {name: pss_bytes(pids) / MEGABYTE for name, pids in by_name.items()}
                into.add("idle_pss_mb", sum(sizes_mb.values()), "MiB")
                for name, size_mb in sorted(sizes_mb.items()):
                    into.add(f"idle_pss_mb_{name}", size_mb, "MiB")
                await asyncio.sleep(READ_EVERY_S)
    finally:
        await remove_state(home, say)


@asynccontextmanager
async def _up(home: Path) -> AsyncIterator[int]:
    """`ledger up`, from `ready` on; stopped at the end."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    environment = {
        **given,
        "LEDGER_HOME": str(home),
        "LEDGER_STACK": "local",
        "LEDGER_HTTP_PORT": str(choose_free(1)[0]),
        "LEDGER_APPS": OPERATIONS,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.cli",
        "up",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    assert process.stdout is not None
    reading = asyncio.create_task(_until_ready(process.stdout))
    try:
        said = await asyncio.wait_for(reading, READY_LIMIT_S)
        if process.returncode is not None or not said[-1:] or _READY not in said[-1]:
            raise MeasurementError("`ledger up` did not become ready:\n" + "\n".join(said[-15:]))
        rest = asyncio.create_task(_drop(process.stdout))
        yield process.pid
        rest.cancel()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_LIMIT_S)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _until_ready(output: asyncio.StreamReader) -> list[str]:
    lines: list[str] = []
    async for line in output:
        lines.append(line.decode(errors="replace").rstrip())
        if _READY in lines[-1]:
            break
    return lines


async def _drop(output: asyncio.StreamReader) -> None:
    # A full pipe would stop the process that is measured.
    while await output.read(65_536):
        pass


def _processes(up: int) -> dict[str, list[int]]:
    """Everything that `ledger up` has started, by what it is."""
    found: dict[str, list[int]] = {"up": [up]}
    for process in psutil.Process(up).children(recursive=True):
        try:
            found.setdefault(_what(process), []).append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _what(process: psutil.Process) -> str:
    command = process.cmdline()
    if "kafka.Kafka" in command:
        return "kafka"
    if "postgres" in process.name():
        return "postgres"
    if "run" in command:
        return command[command.index("run") + 1]
    return "other"
