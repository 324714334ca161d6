"""How many commands wait in Kafka: what the logs hold behind the ledger consumers' marks."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaServers
from ledger.broker.protocol import Bounds, TopicPartition
from ledger.messages.topics import Topics


class CommandLog(NamedTuple):
    """One app's commands on one partition."""

    app: str
    partition: int


def waiting_commands(logs: Mapping[CommandLog, Bounds], next_offsets: Mapping[tuple[str, int], int]) -> dict[int, int]:
    """By partition: the commands behind the marks. What retention has removed does not wait any more."""
    waiting: dict[int, int] = {}
    for log, bounds in logs.items():
        reached = max(next_offsets.get(log, bounds.start), bounds.start)
        waiting[log.partition] = waiting.get(log.partition, 0) + max(bounds.end - reached, 0)
    return waiting


class KafkaCommandLogs:
    """Asks the cluster what the command topics hold, over a connection of its own for each question."""

    def __init__(self, bootstrap_servers: str, topics: Topics, security: KafkaSecurity = NO_SECURITY) -> None:
        self._kafka = KafkaServers(bootstrap_servers, security)
        self._topics = topics

    async def __call__(self, apps: Collection[str]) -> Mapping[CommandLog, Bounds]:
        """The offsets that these apps' logs hold; topics that are missing or of another size are left out.

        Raises:
            BrokerUnavailableError: Kafka is away.
        """
        reader = KafkaRecordReader(self._kafka, client_id="ledger-health")
        await reader.start()
        try:
            counts = await reader.partition_counts()
            partitions = counts.get(self._topics.events, 0)
            logs = {
                TopicPartition(self._topics.commands(app), partition): CommandLog(app, partition)
                for app in apps
                for partition in range(partitions)
                if counts.get(self._topics.commands(app)) == partitions
            }
            return {logs[topic_partition]: bound for topic_partition, bound in (await reader.bounds(logs)).items()}
        finally:
            await reader.stop()
