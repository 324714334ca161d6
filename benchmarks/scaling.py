"""The same backlog with 1, 2 and 4 ledger consumers and as many projection workers: what more processes cost.

There are more processes than cores here, so it is the CPU of one command that is compared, not the rate.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import asyncpg

from benchmarks.backlog import until_projected
from benchmarks.commands import APP, encoded, make_commands
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import START_LIMIT_S, FreshLedger, fresh_ledger
from benchmarks.ledger_process import LedgerProcess, MeasurementError, start_process
from benchmarks.meters import CpuMeter
from benchmarks.publishing import CHUNK_RECORDS
from benchmarks.servers import Servers
from benchmarks.sizes import PARTITIONS, Sizes
from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command
from ledger.sql_files import sql

PROCESSES: Final = (1, 2, 4)
COMMANDS_MAX: Final = 100_000
"""While they are published the consumers are held back by a lock, for less than LOOP_STALL_LIMIT_S of theirs."""

SETTLED_S: Final = 3.0
"""The partitions are shared when nobody has taken any for so long."""

TRIES_MAX: Final = 4
"""On a busy machine partitions move meanwhile: that is measured again."""

KINDS: Final = {"projector": "projectors_share", "consumer": "consumers_share"}
"""What runs, and how one sees that they share the work."""


async def measure_scaling(servers: Servers, sizes: Sizes, run: int, into: Figures) -> None:
    """One run: the backlog with each number of processes, on a new ledger each; every run begins with another number,
    because whatever comes first finds the servers less warm."""
    commands = make_commands(min(COMMANDS_MAX, sizes.backlog_commands), sizes.backlog_owners, "uniform", seed=run)
    first = run % len(PROCESSES)
    measured = {count: await _undisturbed(servers, commands, count) for count in PROCESSES[first:] + PROCESSES[:first]}
    alone_s = sum(measured[1][0].values())
    for count in PROCESSES:
        spent_s, elapsed_s = measured[count]
        into.add(f"scaling_{count}", len(commands) / elapsed_s, "commands/s")
        for kind in sorted({name.partition("-")[0] for name in spent_s}):
            of_kind_s = sum(seconds for name, seconds in spent_s.items() if name.partition("-")[0] == kind)
            into.add(f"scaling_{count}_cpu_us_per_command_{kind}", of_kind_s / len(commands) * 1e6, "us")
        total_s = sum(spent_s.values())
        into.add(f"scaling_{count}_cpu_us_per_command_all", total_s / len(commands) * 1e6, "us")
        if count > 1:
            into.add(f"scaling_{count}_cpu_ratio", total_s / alone_s, "times")


class _DisturbedError(Exception):
    """Partitions moved while it was measured."""


async def _undisturbed(servers: Servers, commands: list[Command], count: int) -> tuple[dict[str, float], float]:
    for _ in range(TRIES_MAX):
        async with fresh_ledger(servers) as ledger:
            try:
                return await _measured(ledger, commands, count)
            except _DisturbedError:
                continue
    raise MeasurementError(f"partitions moved in each of {TRIES_MAX} tries with {count} processes: too busy a machine")


async def _measured(ledger: FreshLedger, commands: list[Command], count: int) -> tuple[dict[str, float], float]:
    """CPU seconds by process, and the time that it took, from when the first of the commands could be decided."""
    records = encoded(commands, PARTITIONS)
    publisher = KafkaPublisher(ledger.kafka)
    await publisher.start()
    try:
        async with _sharing(ledger, count) as processes:
            epochs = await ledger.ask("sum_of_epochs")
            async with _held_back(ledger):
                topic = ledger.topics.commands(APP)
                await asyncio.gather(*(_publish(publisher, topic, place, some) for place, some in records.items()))
                meter = CpuMeter({**ledger.servers.pids, **{name: process.pid for name, process in processes.items()}})
                meter.start()
                began = time.perf_counter()
            await until_projected(ledger, len(commands), processes)
            elapsed_s = time.perf_counter() - began
            spent_s = meter.seconds()
            if await ledger.ask("sum_of_epochs") != epochs:
                raise _DisturbedError
    finally:
        await publisher.stop()
    await _check(ledger, commands)
    return spent_s, elapsed_s


async def _publish(publisher: KafkaPublisher, topic: str, partition: int, records: list[OutgoingRecord]) -> None:
    for begin in range(0, len(records), CHUNK_RECORDS):
        await publisher.publish(topic, partition, records[begin : begin + CHUNK_RECORDS])


@asynccontextmanager
async def _sharing(ledger: FreshLedger, count: int) -> AsyncIterator[dict[str, LedgerProcess]]:
    """So many of each kind, every one with a share of the partitions."""
    processes: dict[str, LedgerProcess] = {}
    try:
        for kind in KINDS:
            for number in range(count):
                name = f"{kind}-{number + 1}"
                log_file = ledger.servers.home / f"{ledger.topics.prefix}-{name}.log"
                command = ["service.cli", "run", kind]
                processes[name] = start_process(name, command, ledger.environment(), log_file)
        await ledger.until(_Settled(ledger, processes), START_LIMIT_S, processes)
        yield processes
    finally:
        await asyncio.gather(*(process.stop() for process in processes.values()))


class _Settled:
    """Whether each process has had its share for a while."""

    def __init__(self, ledger: FreshLedger, processes: dict[str, LedgerProcess]) -> None:
        self._ledger = ledger
        self._processes = processes
        self._seen = (-1, 0.0)

    async def __call__(self) -> bool:
        for kind, statement in KINDS.items():
            holders = [one.holder for name, one in self._processes.items() if name.startswith(kind)]
            if not await self._ledger.ask(statement, holders):
                self._seen = (-1, 0.0)
                return False
        epochs = await self._ledger.ask("sum_of_epochs")
        if epochs != self._seen[0]:
            self._seen = (epochs, time.perf_counter())
        return time.perf_counter() - self._seen[1] >= SETTLED_S


@asynccontextmanager
async def _held_back(ledger: FreshLedger) -> AsyncIterator[None]:
    """Nothing is committed for the time of the block."""
    connection = await asyncpg.connect(ledger.database_url)
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(sql("benchmarks", "hold_heads"))
        yield
        await transaction.rollback()
    except asyncpg.InterfaceError as error:
        # A claim ends the connection of whoever locks the head for long.
        raise _DisturbedError from error
    finally:
        connection.terminate()


async def _check(ledger: FreshLedger, commands: list[Command]) -> None:
    """A figure counts only when the work was done."""
    total = sum(command.amount or 0 for command in commands)
    expected = {"entries": len(commands), "credited": total, "balances": total, "lines": len(commands)}
    [found] = await ledger.totals([0] * PARTITIONS)
    if dict(found) != expected:
        raise MeasurementError(f"the work was not done: expected {expected}, found {dict(found)}")
