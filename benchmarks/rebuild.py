"""A read model made anew from the record, while others read it."""

import asyncio
import json
import random
import sys
import time
from typing import Final

from benchmarks.commands import owner_id
from benchmarks.figures import Figures, percentile
from benchmarks.fresh_ledger import FreshLedger
from benchmarks.ledger_process import MeasurementError
from projections.balances.queries import BalanceReader
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions

READERS: Final = 2
READS_PER_S: Final = 100
"""Of each reader: the reads are to go on, not to be what the cores are busy with."""

READ_WAIT_S: Final = 2.0


async def measure_rebuild(ledger: FreshLedger, owners: int, into: Figures) -> None:
    """One run of `ledger rebuild balances`, with readers beside it. Every owner holds something, so that a read that
    finds nothing is an error.

    Raises:
        MeasurementError: the rebuild failed, or a read did not find a balance.
    """
    await ledger.do("checkpoint")
    pool = ReadPool(ledger.database_url, "benchmark reads")
    await pool.start()
    reader = BalanceReader(pool, AnsweredPositions(), READ_WAIT_S)
    try:
        waits_ms: list[float] = []
        reading = [asyncio.create_task(_read(reader, owners, seed, waits_ms)) for seed in range(READERS)]
        try:
            rebuilt = await _rebuild(ledger)
        finally:
            for task in reading:
                task.cancel()
            ended = await asyncio.gather(*reading, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise MeasurementError(f"a read failed while `balances` was rebuilt: {outcome}") from outcome
    finally:
        await pool.stop()
    into.add("rebuild", rebuilt["events"] / rebuilt["elapsed_s"], "events/s")
    into.add("rebuild_reads_p99_ms", percentile(waits_ms, 0.99), "ms")


async def _rebuild(ledger: FreshLedger) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "service.cli", "rebuild", "balances", "--json"),
        env=ledger.environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    answer, said = await process.communicate()
    if process.returncode != 0:
        raise MeasurementError(f"`ledger rebuild` ended with {process.returncode}: {said.decode(errors='replace')}")
    [rebuilt] = json.loads(answer)
    if rebuilt["events"] != await ledger.events():
        raise MeasurementError(f"`ledger rebuild` took in {rebuilt['events']} of {await ledger.events()} events")
    return {"events": float(rebuilt["events"]), "elapsed_s": float(rebuilt["elapsed_s"])}


async def _read(reader: BalanceReader, owners: int, seed: int, waits_ms: list[float]) -> None:
    """Read one balance after the other, until cancelled."""
    chance = random.Random(seed)
    while True:
        owner = owner_id(chance.randrange(owners))
        began = time.perf_counter()
        found = await reader.of_owner(owner)
        waits_ms.append((time.perf_counter() - began) * 1e3)
        if not found.accounts:
            raise MeasurementError(f"no balance of {owner}, who has entries")
        await asyncio.sleep(1 / READS_PER_S)
