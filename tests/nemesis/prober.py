"""A steady trickle of commands to every partition, past all proxies, so that one that stands still shows."""

import asyncio
import itertools
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from ledger.messages.command_ids import new_command_id
from ledger.messages.partitioning import partition_of
from producers import LedgerClient, LedgerError
from tests.nemesis.history import Failed, HistoryWriter, Placed

PROBE_EVERY_S: Final = 0.5
PUBLISH_WAIT_S: Final = 3.0
PROBE_APP: Final = "example-app"
START_PAUSE_S: Final = 0.2


class Prober:
    """Runs until it is cancelled, and keeps its history like every client."""

    def __init__(self, kafka: str, partitions: int, history: Path) -> None:
        self._kafka = kafka
        self._history = history
        self._owners = _one_owner_each(partitions)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """One command to each partition, again and again."""
        with HistoryWriter(self._history, self._history.stem, 1) as history:
            async with LedgerClient(PROBE_APP, self._kafka, publish_wait_s=PUBLISH_WAIT_S) as client:
                try:
                    while True:
                        for partition, owner in self._owners.items():
                            task = asyncio.create_task(self._probe(client, history, partition, owner))
                            self._tasks.add(task)
                            task.add_done_callback(self._tasks.discard)
                        await asyncio.sleep(PROBE_EVERY_S)
                finally:
                    if self._tasks:
                        await asyncio.wait(self._tasks, timeout=PUBLISH_WAIT_S + 2)

    async def _probe(self, client: LedgerClient, history: HistoryWriter, partition: int, owner: str) -> None:
        command_id = new_command_id()
        now = datetime.now(UTC)
        body: dict[str, Any] = {
            "operation": "CREDIT_ADD",
            "owner_id": owner,
            "nonce": uuid.uuid4().hex,
            "amount": 1,
            "issued_at": now.isoformat(),
        }
        call = history.call(PROBE_APP, partition, str(command_id), False, body)
        try:
            placed = await client.publish(**(body | {"command_id": command_id, "issued_at": now}))
        except LedgerError as error:
            history.answer(call, Failed(type(error).__name__, None))
        else:
            history.answer(call, Placed(placed.offset))


def _one_owner_each(partitions: int) -> dict[int, str]:
    owners: dict[int, str] = {}
    for number in itertools.count():
        owner = f"probe-{number}"
        owners.setdefault(partition_of(owner.encode(), partitions), owner)
        if len(owners) == partitions:
            return owners
    raise AssertionError
