"""A subscriber as a process of its own, for tests that kill or freeze it: `python -m tests.subscriber_process`."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from consumers.subscriber import LedgerSubscriber, RecordedEvent
from ledger.messages.topics import Topics
from tests.subscriber_topics import APP, QUICK, Bench

ROOT = Path(__file__).parents[1]
HANDLING_S = 0.001


@contextlib.contextmanager
def subscriber_process(bench: Bench, name: str, written: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running member of the group that writes a line per handled event; gone afterwards whatever the test did."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.subscriber_process", bench.bootstrap, bench.topics.prefix, name, str(written)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if "SHOW" not in os.environ else None,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def _main() -> None:
    bootstrap, prefix, name, written = sys.argv[1:]
    subscriber = LedgerSubscriber(
        app=APP,
        group=f"{prefix}.content",
        kafka_bootstrap_servers=bootstrap,
        on_failure="park",
        start="beginning",
        topics=Topics(prefix),
        retries=QUICK,
    )
    # One write of one line is atomic for a file opened to append, so all members can share the file.
    lines = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    @subscriber.on("entry_posted")
    async def note(event: RecordedEvent) -> None:
        await asyncio.sleep(HANDLING_S)
        os.write(lines, f"{name} {event.owner_id} {event.partition} {event.sequence}\n".encode())

    await subscriber.run()


if __name__ == "__main__":
    asyncio.run(_main())
