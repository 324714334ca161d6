"""Live: commands at a steady rate, from the call that publishes to its outcome, and to the balance that shows it."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from benchmarks.commands import APP, owner_id
from benchmarks.figures import Figures, percentile
from benchmarks.fresh_ledger import FreshLedger
from benchmarks.ledger_process import LedgerProcess, MeasurementError
from benchmarks.meters import CpuMeter
from benchmarks.sizes import PARTITIONS, Sizes
from ledger.domain.position import Position
from producers import LedgerClient

VISIBILITY_POLL_S: Final = 0.004
"""Between two looks at the read model: visible is noticed up to this much late, never early. Looking twice as often
costs a tenth of what the ledger itself needs at 500 commands/s."""

OWNERS: Final = 10_000
"""Unless the ledger has more already."""

OUTCOME_LIMIT_S: Final = 60.0
"""A machine that is too busy for the rate shows it by its latencies, not by an error."""

LAST_ONES_LIMIT_S: Final = 30.0


async def measure_live(
    ledger: FreshLedger,
    processes: Mapping[str, LedgerProcess],
    sizes: Sizes,
    rate_per_s: int,
    run: int,
    into: Figures,
    *,
    owners: int = OWNERS,
    suffix: str = "",
) -> None:
    """One run at one rate, on a ledger whose consumer and projection worker run.

    Latency counts from the moment at which the command was due, so that a generator that falls behind hides nothing.
    Names without a rate are those of 1,000 commands/s; `suffix` is appended to all.
    """
    prefix = "live" if rate_per_s == 1_000 else f"live_{rate_per_s}"
    watch = _ReadModelWatch(ledger)
    kafka = ledger.kafka
    async with LedgerClient(
        APP, kafka.bootstrap_servers, security=kafka.security, topic_prefix=ledger.topics.prefix
    ) as client:
        await client.follow_outcomes()
        watching = asyncio.create_task(watch.run())
        try:
            warm_up, count = (int(seconds * rate_per_s) for seconds in (sizes.live_warm_up_s, sizes.live_s))
            await _submit_at(client, rate_per_s, warm_up, owners, f"{prefix}-{run}-warm-up")
            meter = CpuMeter({**ledger.servers.pids, **{name: process.pid for name, process in processes.items()}})
            meter.start()
            measured = await _submit_at(client, rate_per_s, count, owners, f"{prefix}-{run}")
            spent_s = meter.seconds()
            await watch.until_shown([one.position for one in measured])
        finally:
            watching.cancel()
    outcomes_ms = [(one.answered - one.due) * 1e3 for one in measured]
    visible_ms = [(watch.shown_at(one.position) - one.due) * 1e3 for one in measured]
    for what, values in (("outcome", outcomes_ms), ("visible", visible_ms)):
        into.add(f"{prefix}_{what}_p50_ms{suffix}", percentile(values, 0.5), "ms")
        into.add(f"{prefix}_{what}_p99_ms{suffix}", percentile(values, 0.99), "ms")
        into.add(f"{prefix}_{what}_max_ms{suffix}", max(values), "ms")
    for name, seconds in sorted(spent_s.items()):
        into.add(f"{prefix}_cpu_us_per_command_{name}{suffix}", seconds / len(measured) * 1e6, "us")


class _Submitted:
    """One command: when it was due, when it was answered, where its entry lies. Seconds of one monotonic clock."""

    __slots__ = ("answered", "due", "position")

    def __init__(self, due: float, answered: float, position: Position) -> None:
        self.due = due
        self.answered = answered
        self.position = position


async def _submit_at(client: LedgerClient, rate_per_s: int, count: int, owners: int, nonce: str) -> list[_Submitted]:
    began = time.perf_counter() + 0.1
    tasks = []
    for index in range(count):
        due = began + index / rate_per_s
        ahead_s = due - time.perf_counter()
        if ahead_s > 0:
            await asyncio.sleep(ahead_s)
        # A stride that is prime to the number of owners spreads them over the partitions.
        owner = owner_id(index * 7_919 % owners)
        tasks.append(asyncio.create_task(_submit(client, due, owner, f"{nonce}-{index}")))
    return await asyncio.gather(*tasks)


async def _submit(client: LedgerClient, due: float, owner: str, nonce: str) -> _Submitted:
    outcome = await client.submit("CREDIT_ADD", owner, nonce, wait_s=OUTCOME_LIMIT_S)
    return _Submitted(due, time.perf_counter(), outcome.position)


class _ReadModelWatch:
    """When the committed balances showed which positions."""

    def __init__(self, ledger: FreshLedger) -> None:
        self._ledger = ledger
        self._sequences: list[list[int]] = [[0] for _ in range(PARTITIONS)]
        self._times: list[list[float]] = [[0.0] for _ in range(PARTITIONS)]

    async def run(self) -> None:
        """Look, until cancelled."""
        while True:
            for partition, sequence in await self._ledger.rows("balance_checkpoints"):
                if sequence > self._sequences[partition][-1]:
                    self._sequences[partition].append(sequence)
                    self._times[partition].append(time.perf_counter())
            await asyncio.sleep(VISIBILITY_POLL_S)

    async def until_shown(self, positions: list[Position]) -> None:
        """Wait until all are shown. Raises MeasurementError after LAST_ONES_LIMIT_S."""
        deadline = time.perf_counter() + LAST_ONES_LIMIT_S
        while any(self._sequences[one.partition][-1] < one.sequence for one in positions):
            if time.perf_counter() > deadline:
                raise MeasurementError(f"the balances do not show the last entries within {LAST_ONES_LIMIT_S:g} s")
            await asyncio.sleep(VISIBILITY_POLL_S)

    def shown_at(self, position: Position) -> float:
        """The first look that showed the position."""
        index = bisect_left(self._sequences[position.partition], position.sequence)
        return self._times[position.partition][index]
