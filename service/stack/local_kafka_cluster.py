"""Several Apache Kafka brokers as local processes: a cluster that survives the loss of one."""

import asyncio
from pathlib import Path
from typing import Final

from service.stack.interface import Report, ServerStatus
from service.stack.local_kafka import STOPS_WITHIN_S, KafkaNode, LocalKafka, new_cluster_id

LAST_STOPS_WITHIN_S: Final = 3.0
"""A broker that is alone finds no majority of controllers that would let it go: what it has is on disk all the same."""

_CLUSTER: Final = "kafka-cluster"
"""Name of the file that holds the cluster's id and its number of brokers."""


class LocalKafkaCluster:
    """Brokers 1 to n, each in a folder of its own beside the others. `brokers` are there to be killed by tests."""

    def __init__(self, home: Path, cache: Path, ports: dict[str, int], count: int) -> None:
        """
        Args:
            home: Folder of the brokers' folders.
            cache: Where Kafka's jars are kept.
            ports: By the names that `port_names` gives.
            count: Of brokers; 3 is the least that survives the loss of one.
        """
        controllers = tuple(ports[f"kafka_controller-{number}"] for number in range(1, count + 1))
        self._home = home
        self._cluster_id, _ = _read_cluster(home) or (new_cluster_id(), count)
        self.brokers = [
            LocalKafka(
                folder_of(home, number),
                cache,
                ports[f"kafka-{number}"],
                controllers[number - 1],
                node=KafkaNode(number, controllers, self._cluster_id),
            )
            for number in range(1, count + 1)
        ]
        self.address = ",".join(broker.address for broker in self.brokers)

    async def require_free_ports(self) -> None:
        """See LocalKafka."""
        for broker in self.brokers:
            await broker.require_free_ports()

    async def start(self, report: Report) -> None:
        """Returns when all brokers answer. Raises StackError as LocalKafka does."""
        self._home.mkdir(parents=True, exist_ok=True)
        (self._home / _CLUSTER).write_text(f"{self._cluster_id} {len(self.brokers)}")
        for broker in self.brokers:  # one after the other, as the first may have to download
            await broker.launch(report)
        await asyncio.gather(*(broker.until_answering(report) for broker in self.brokers))

    async def stop(self, report: Report) -> None:
        """One after the other, so that each can hand over what it leads."""
        *others, last = reversed(self.brokers)
        for broker in others:
            await broker.stop(report, STOPS_WITHIN_S)
        await last.stop(report, LAST_STOPS_WITHIN_S)

    async def status(self) -> ServerStatus:
        """All of them as one server: it answers when each of them does."""
        statuses = [await broker.status() for broker in self.brokers]
        return ServerStatus("kafka", all(one.answers for one in statuses), self.address, statuses[0].pid)


def port_names(count: int) -> tuple[str, ...]:
    """The names of the ports that so many brokers need."""
    numbers = range(1, count + 1)
    return (*(f"kafka-{number}" for number in numbers), *(f"kafka_controller-{number}" for number in numbers))


def folder_of(home: Path, number: int) -> Path:
    """Where a broker keeps everything."""
    return home / f"kafka-{number}"


def brokers_of(home: Path) -> int | None:
    """How many brokers' data lie in this home; None before the first start."""
    cluster = _read_cluster(home)
    if cluster is not None:
        return cluster[1]
    return 1 if (home / "kafka").exists() else None


def _read_cluster(home: Path) -> tuple[str, int] | None:
    try:
        cluster_id, count = (home / _CLUSTER).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return cluster_id, int(count)
