"""A projection worker as a process of its own, for tests that kill or freeze it (`python -m` runs this file)."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.ledger_on_servers import LedgerOnServers

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def projection_process(ledger: LedgerOnServers, holder: str) -> Iterator[subprocess.Popen[bytes]]:
    """A running worker; whatever the test did to it, it is gone afterwards."""
    arguments = [ledger.bootstrap, ledger.database_url, ledger.topics.prefix, str(ledger.partitions), holder]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.projection_process", *arguments],
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
    from apps.example_app.operations import ExampleAppOperations
    from ledger.messages.topics import Topics
    from tests.projections_on_servers import worker

    bootstrap, database_url, prefix, partitions, holder = sys.argv[1:]
    ledger = LedgerOnServers(bootstrap, database_url, int(partitions), (ExampleAppOperations,))
    ledger.topics = Topics(prefix)
    running = worker(ledger, holder)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.stop)
    await running.run()


if __name__ == "__main__":
    asyncio.run(_main())
