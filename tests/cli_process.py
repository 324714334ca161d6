"""The command line as its users have it: a process of its own, with settings in its environment."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.ledger_on_servers import LedgerOnServers

ROOT = Path(__file__).parents[1]
LIMIT_S = 90.0


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What `--json` printed."""
        return json.loads(self.out)


def cli_environment(ledger: LedgerOnServers, home: Path) -> dict[str, str]:
    """The environment in which the command line finds a test's ledger."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LEDGER_")}
    return kept | {
        "LEDGER_HOME": str(home),
        "LEDGER_STACK": "external",
        "LEDGER_KAFKA_BOOTSTRAP_SERVERS": ledger.bootstrap,
        "LEDGER_DATABASE_URL": ledger.database_url,
        "LEDGER_TOPIC_PREFIX": ledger.topics.prefix,
        "LEDGER_PARTITIONS": str(ledger.partitions),
        "LEDGER_APPS": "apps.example_app.operations:ExampleAppOperations",
        "PYTHONPATH": str(ROOT),
    }


async def ledger_cli(*arguments: str, environment: dict[str, str], folder: Path | None = None) -> Ended:
    """Run `ledger ARGUMENTS` to its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "service.cli",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=folder or ROOT,
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), LIMIT_S)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
