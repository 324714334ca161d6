"""A projection worker that begins at nothing: how fast it takes in what lies in Kafka."""

import time

from benchmarks.backlog import until_projected
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import FreshLedger
from benchmarks.meters import CpuMeter


async def measure_catch_up(ledger: FreshLedger, into: Figures) -> None:
    """One run, on a ledger whose events all lie in its topic, and whose processes have ended.

    Its read models are emptied. The clock starts when the worker holds all partitions and ends when both read models
    have taken in the last event; what it had taken in by the start of the clock does not count.
    """
    await ledger.empty_read_models()
    await ledger.do("checkpoint")
    events = await ledger.events()
    async with ledger.running("projector") as processes:
        meter = CpuMeter({**ledger.servers.pids, "projector": processes["projector"].pid})
        began = time.perf_counter()
        meter.start()
        before = await ledger.ask("projected")
        await until_projected(ledger, events, processes)
        elapsed_s = time.perf_counter() - began
        spent_s = meter.seconds()
    into.add("catch_up", (events - before) / elapsed_s, "events/s")
    into.add("catch_up_cpu_us_per_event", sum(spent_s.values()) / (events - before) * 1e6, "us")
