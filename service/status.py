"""The state of a whole ledger at one moment, from Kafka and Postgres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ledger.broker.protocol import BrokerUnavailableError, TopicPartition
from ledger.broker.topics_sync import SyncReport, check_topics
from ledger.event_store.connections import connect
from ledger.event_store.interventions import Intervention, list_interventions
from ledger.event_store.overview import Overview, read_overview
from ledger.event_store.protocol import TRYING_CLAIMS_MAX
from projections.command_lag import CommandLog, waiting_commands
from projections.health import Health, HealthReader
from service.wiring import Wiring

DEATHS_TOLD_FROM: Final = 2
"""Claims that met a record over which the holder before had died: one may be a kill -9, a second is hardly chance."""

INTERVENTIONS_TOLD_MAX: Final = 1
"""The last one: its number tells about how many there are."""


@dataclass(frozen=True, slots=True)
class Status:
    """What `ledger status` shows. What Kafka alone knows is None while it is away."""

    overview: Overview
    health: Health
    topics: SyncReport | None
    lag: Mapping[int, int] | None
    """Commands that wait, by partition, of the registered apps."""
    kafka_away: str | None
    interventions: Sequence[Intervention] = ()
    """What operators have done last, newest first, at most INTERVENTIONS_TOLD_MAX."""

    @property
    def problems(self) -> list[str]:
        """What an operator should look at, in words; empty when all is well."""
        found = [f"Kafka: {self.kafka_away}"] if self.kafka_away else []
        found += [f"ledger consumer: {problem}" for problem in self.health.ledger_consumer.problems]
        found += [f"projections: {problem}" for problem in self.health.projections.problems]
        if self.topics is not None:
            found += [f"topic {name} is missing; run `ledger topics sync`" for name in self.topics.missing]
            found += [f"topic {wrong}: it is not consumed" for wrong in self.topics.wrong_size]
            found += [
                f"topic {name} belongs to no registered app: it is not consumed" for name in self.topics.unregistered
            ]
        found += [
            f"consumers died {head.trying_claims} times at {head.trying} of partition {head.partition} (app:offset); "
            f"after {TRYING_CLAIMS_MAX} the partition is halted (docs/operating.md, 'A record that kills the consumer')"
            for head in self.overview.partitions
            if head.trying is not None and head.trying_claims >= DEATHS_TOLD_FROM and head.halted_because is None
        ]
        waiting = sum(count.count for count in self.overview.quarantine if count.status == "waiting")
        if waiting:
            found.append(f"{waiting} messages wait in quarantine; see `ledger quarantine list`")
        return found


async def read_status(wiring: Wiring) -> Status:
    """Ask Postgres and Kafka.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
        RecordMismatchError: there is no ledger in the database.
    """
    connection = await connect(wiring.addresses.database("reader"), role="ledger_reader", application="ledger status")
    try:
        overview = await read_overview(connection)
        interventions = await list_interventions(connection, INTERVENTIONS_TOLD_MAX)
    finally:
        connection.terminate()
    topics: SyncReport | None = None
    lag: Mapping[int, int] | None = None
    away: str | None = None
    try:
        topics, lag = await _ask_kafka(wiring, overview)
    except BrokerUnavailableError as error:
        away = str(error)
    pool = wiring.read_pool()
    await pool.start()
    try:
        health = await HealthReader(pool, _answered).read()
    finally:
        await pool.stop()
    return Status(overview, health, topics, lag, away, interventions)


async def _answered() -> None:
    """Kafka is asked for itself, above."""


async def _ask_kafka(wiring: Wiring, overview: Overview) -> tuple[SyncReport, Mapping[int, int]]:
    partitions = overview.identity.partitions
    async with wiring.admin() as admin:
        report = await check_topics(admin, wiring.wanted_topics(partitions), wiring.topics)
    sound = {*report.right, *report.created}
    apps = {wiring.topics.commands(app): app for app in wiring.registry if wiring.topics.commands(app) in sound}
    reader = wiring.reader()
    await reader.start()
    try:
        bounds = await reader.bounds(
            [TopicPartition(topic, partition) for topic in apps for partition in range(partitions)]
        )
    finally:
        await reader.stop()
    logs = {CommandLog(apps[topic], partition): bound for (topic, partition), bound in bounds.items()}
    return report, dict.fromkeys(range(partitions), 0) | waiting_commands(logs, overview.next_offsets)
