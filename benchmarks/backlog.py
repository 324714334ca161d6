"""A backlog: commands that lie in Kafka, from there to the last committed balance."""

import asyncio
import time
from typing import Final

from benchmarks.commands import APP, Distribution, encoded, make_commands
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import FreshLedger, MeasurementError, fresh_ledger
from benchmarks.meters import CpuMeter
from benchmarks.servers import Servers
from benchmarks.sizes import PARTITIONS, Sizes
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command

SLOWEST_PER_S: Final = 1_000
"""A ledger that is slower than this is taken to stand still."""

CHUNK_RECORDS: Final = 500


async def measure_backlog(servers: Servers, sizes: Sizes, distribution: Distribution, run: int, into: Figures) -> None:
    """One run: a new ledger, its commands in Kafka, then one ledger consumer and one projection worker.

    The clock starts when the consumer has claimed its partitions (the worker holds its own by then), before it has read
    a command, and ends when every read model's checkpoint has passed the last event.
    """
    commands = make_commands(sizes.backlog_commands, sizes.backlog_owners, distribution, seed=run)
    count = len(commands)
    async with fresh_ledger(servers) as ledger:
        await _publish(ledger, encoded(commands, PARTITIONS))
        async with ledger.running("projector", "consumer") as processes:
            began = time.perf_counter()
            meter = CpuMeter({**servers.pids, **{name: process.pid for name, process in processes.items()}})
            meter.start()

            async def all_projected() -> bool:
                return await ledger.ask("projected") >= count

            await ledger.until(all_projected, 60 + count / SLOWEST_PER_S, processes)
            elapsed_s = time.perf_counter() - began
            spent_s = meter.seconds()
        await _check(ledger, commands)
    into.add(f"backlog_{distribution}", count / elapsed_s, "commands/s")
    # The plain names are those of the uniform case.
    suffix = "" if distribution == "uniform" else f"_{distribution}"
    for name, seconds in sorted(spent_s.items()):
        into.add(f"cpu_us_per_command_{name}{suffix}", seconds / count * 1e6, "us")
    into.add(f"cpu_us_per_command_all{suffix}", sum(spent_s.values()) / count * 1e6, "us")


async def _publish(ledger: FreshLedger, records: dict[int, list[OutgoingRecord]]) -> None:
    publisher = KafkaPublisher(ledger.kafka)
    await publisher.start()
    try:
        await asyncio.gather(*(_publish_to(publisher, ledger, partition, some) for partition, some in records.items()))
    finally:
        await publisher.stop()


async def _publish_to(
    publisher: KafkaPublisher, ledger: FreshLedger, partition: int, records: list[OutgoingRecord]
) -> None:
    topic = ledger.topics.commands(APP)
    for begin in range(0, len(records), CHUNK_RECORDS):
        await publisher.publish(topic, partition, records[begin : begin + CHUNK_RECORDS])


async def _check(ledger: FreshLedger, commands: list[Command]) -> None:
    """A figure counts only when the work was done."""
    [found] = await ledger.rows("check_totals")
    total = sum(command.amount or 0 for command in commands)
    if dict(found) != {"entries": len(commands), "credited": total, "balances": total, "lines": len(commands)}:
        raise MeasurementError(f"expected {len(commands)} entries that add up to {total}, found {dict(found)}")
