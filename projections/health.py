"""How the ledger's parts are, as Postgres and Kafka show it."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from ledger.broker.protocol import Bounds, BrokerUnavailableError
from ledger.event_store.protocol import StoreUnavailableError
from ledger.sql_files import sql
from projections.command_lag import CommandLog, waiting_commands
from projections.read_pool import ReadPool

PROBE_LIMIT_S: Final = 3.0
CONSUMER_SILENT_LIMIT_S: Final = 20.0
"""A holder that has said nothing for longer is taken for dead; it speaks every 5 s."""

PROJECTION_LAG_LIMIT_S: Final = 10.0
"""A read model that is further behind is reported as failing."""

KafkaProbe = Callable[[], Awaitable[object]]
"""Asks Kafka anything; raises when it does not answer."""

CommandLogs = Callable[[Collection[str]], Awaitable[Mapping[CommandLog, Bounds]]]
"""What the command topics of these apps hold; raises BrokerUnavailableError."""


@dataclass(frozen=True, slots=True)
class ConsumerPartition:
    """One partition of the record: who holds it and where it stands."""

    partition: int
    holder: str | None
    sequence: int
    unpublished: int
    halted_because: str | None
    silent_s: float | None
    """Since its holder last said that it lives."""
    waiting: int | None = None
    """Commands in Kafka that nobody has decided yet; None when that is not known."""
    halted_apps: Mapping[str, str] = field(default_factory=dict)
    """By app: why nothing of that app is consumed here, while others go on."""


@dataclass(frozen=True, slots=True)
class ProjectionPartition:
    """One feed: who holds it and how far it is behind the record."""

    read_model: str
    version: int
    partition: int
    holder: str | None
    sequence: int
    behind: int
    behind_s: float | None
    halted_because: str | None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the whole. `problems` is empty while it works."""

    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether it works."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class Health:
    """All parts at one moment."""

    kafka: Part
    postgres: Part
    ledger_consumer: Part
    projections: Part
    consumer_partitions: list[ConsumerPartition]
    projection_partitions: list[ProjectionPartition]

    @property
    def ready(self) -> bool:
        """Whether all of them work."""
        return all(part.ok for part in (self.kafka, self.postgres, self.ledger_consumer, self.projections))


class HealthReader:
    """Asks Kafka and Postgres how the ledger is. Never raises because one of them is away."""

    def __init__(self, pool: ReadPool, kafka_probe: KafkaProbe, command_logs: CommandLogs | None = None) -> None:
        """Without `command_logs` it is not known how many commands wait."""
        self._pool = pool
        self._kafka_probe = kafka_probe
        self._command_logs = command_logs

    async def read(self) -> Health:
        """How all parts are now, within PROBE_LIMIT_S each."""
        kafka, (postgres, consumers, feeds) = await asyncio.gather(self._kafka(), self._postgres())
        if kafka.ok and postgres.ok:
            consumers = await self._with_waiting(consumers)
        return Health(kafka, postgres, _consumer_part(consumers), _projection_part(feeds), consumers, feeds)

    async def _with_waiting(self, consumers: list[ConsumerPartition]) -> list[ConsumerPartition]:
        if self._command_logs is None:
            return consumers
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                marks = await self._pool.fetch(sql("ledger.event_store", "overview_marks"))
                next_offsets = {(mark["app"], mark["partition"]): mark["next_offset"] for mark in marks}
                logs = await self._command_logs({app for app, _ in next_offsets})
        except (StoreUnavailableError, BrokerUnavailableError, TimeoutError):
            return consumers  # not known now; that they are away is said by their own parts
        waiting = waiting_commands(logs, next_offsets)
        return [replace(one, waiting=waiting.get(one.partition, 0)) for one in consumers]

    async def _kafka(self) -> Part:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                await self._kafka_probe()
        except Exception as error:  # whatever the client raises, Kafka is away
            return Part([f"Kafka: {type(error).__name__}: {error}"])
        return Part()

    async def _postgres(self) -> tuple[Part, list[ConsumerPartition], list[ProjectionPartition]]:
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                heads = await self._pool.fetch(sql("projections", "read_consumer_health"))
                feeds = await self._pool.fetch(sql("projections", "read_projection_health"))
        except StoreUnavailableError as error:
            return Part([str(error)]), [], []
        except TimeoutError:
            return Part([f"Postgres: no answer within {PROBE_LIMIT_S:g} s"]), [], []
        return (
            Part(),
            [
                ConsumerPartition(
                    row["partition"],
                    row["holder"],
                    row["sequence"],
                    row["unpublished"],
                    row["halted_because"],
                    row["silent_s"],
                    halted_apps=json.loads(row["halted_apps"] or "{}"),
                )
                for row in heads
            ],
            [
                ProjectionPartition(
                    row["read_model"],
                    row["version"],
                    row["partition"],
                    row["holder"],
                    row["sequence"],
                    row["behind"],
                    row["behind_s"],
                    row["halted_because"],
                )
                for row in feeds
            ],
        )


def _consumer_part(partitions: list[ConsumerPartition]) -> Part:
    halted: dict[str, list[str]] = {}
    for one in partitions:
        if one.halted_because:
            halted.setdefault(one.halted_because, []).append(str(one.partition))
    problems = [f"partition {', '.join(numbers)} is halted: {because}" for because, numbers in halted.items()]
    by_reason: dict[tuple[str, str], list[str]] = {}
    for one in partitions:
        for app, because in one.halted_apps.items():
            by_reason.setdefault((app, because), []).append(str(one.partition))
    problems += [
        f"{app} is halted on partition {', '.join(numbers)}: {because}"
        for (app, because), numbers in sorted(by_reason.items())
    ]
    orphans = [str(one.partition) for one in partitions if one.holder is None]
    if not partitions:
        problems.append("not known")
    elif orphans:
        problems.append(f"no ledger consumer holds partition {', '.join(orphans)}: is one running?")
    silent: dict[str, list[str]] = {}
    for one in partitions:
        if one.holder is not None and (one.silent_s is None or one.silent_s > CONSUMER_SILENT_LIMIT_S):
            silent.setdefault(one.holder, []).append(str(one.partition))
    problems += [
        f"the ledger consumer {holder}, which holds partition {', '.join(numbers)}, has been silent for more than "
        f"{CONSUMER_SILENT_LIMIT_S:g} s: is it running?"
        for holder, numbers in silent.items()
    ]
    return Part(problems)


def _projection_part(feeds: list[ProjectionPartition]) -> Part:
    problems = []
    for one in feeds:
        name = f"{one.read_model} on partition {one.partition}"
        if one.halted_because:
            problems.append(f"{name} is halted: {one.halted_because}")
        elif one.behind_s is not None and one.behind_s > PROJECTION_LAG_LIMIT_S:
            problems.append(f"{name} is {one.behind} events and {one.behind_s:.0f} s behind")
        elif one.holder is None:
            problems.append(f"no projection worker holds {name}: is one running?")
    return Part(problems if feeds else ["not known"])
