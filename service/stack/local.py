"""Kafka and Postgres as processes of this machine: for machines without a container engine."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from service.stack.deathwatch import Deathwatch
from service.stack.interface import Addresses, Purpose, Report, ServerStatus, StackError
from service.stack.local_kafka import LocalKafka
from service.stack.local_kafka_cluster import LocalKafkaCluster, brokers_of, port_names
from service.stack.local_postgres import LocalPostgres
from service.stack.state import remembered_ports

_PORT_NAMES = ("kafka", "kafka_controller", "postgres")


class LocalStack:
    """Data, logs and pids lie in the home, downloads in the cache. What a crash left running is used."""

    def __init__(self, home: Path, cache: Path, purpose: Purpose, brokers: int = 1) -> None:
        """`brokers` Kafka brokers: what a home has begun with, it goes on with."""
        self._home = home.resolve()
        self._cache = cache
        self._durable = purpose == "run"
        self._brokers = brokers
        self._deathwatch: Deathwatch | None = None

    @property
    def name(self) -> Literal["local"]:
        return "local"

    async def start(self, report: Report) -> Addresses:
        """Both at the same time. See `Stack.start`."""
        there = brokers_of(self._home)
        if there is not None and there != self._brokers:
            raise StackError(
                f"{self._home} holds the data of {there} Kafka broker{'s'[: there - 1]}, and LEDGER_BROKERS="
                f"{self._brokers} is set: set LEDGER_BROKERS={there}, or LEDGER_HOME to a new folder"
            )
        kafka, postgres = self._servers()
        await kafka.require_free_ports()
        await postgres.require_free_ports()
        if not self._durable:
            self._deathwatch = Deathwatch(self._home)
        try:
            outcomes = await asyncio.gather(kafka.start(report), postgres.start(report), return_exceptions=True)
            _raise_any(outcomes)
        except BaseException:  # whatever ends the start, Ctrl-C included, leaves no server behind
            await self.stop(report)
            raise
        return Addresses(kafka.address, postgres.url)

    async def stop(self, report: Report) -> None:
        """See `Stack.stop`."""
        kafka, postgres = self._servers()
        await kafka.stop(report)
        await postgres.stop(report)
        if self._deathwatch is not None:
            self._deathwatch.dismiss()
            self._deathwatch = None

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """See `Stack.status`."""
        kafka, postgres = self._servers()
        return await kafka.status(), await postgres.status()

    def _servers(self) -> tuple[LocalKafka | LocalKafkaCluster, LocalPostgres]:
        # Whoever stops the servers or asks for them need not know how many there are.
        count = brokers_of(self._home) or self._brokers
        if count > 1:
            ports = remembered_ports(self._home, (*port_names(count), "postgres"))
            cluster = LocalKafkaCluster(self._home, self._cache, ports, count)
            return cluster, LocalPostgres(self._home / "postgres", ports["postgres"], self._durable)
        ports = remembered_ports(self._home, _PORT_NAMES)
        kafka = LocalKafka(self._home / "kafka", self._cache, ports["kafka"], ports["kafka_controller"])
        return kafka, LocalPostgres(self._home / "postgres", ports["postgres"], self._durable)


def folders_of(home: Path) -> list[Path]:
    """Where the state of a home lies: in the home, and for root perhaps Postgres's data elsewhere."""
    server = home / "postgres" / "server"
    return [server.resolve(), home] if server.is_symlink() else [home]


def _raise_any(outcomes: Sequence[BaseException | None]) -> None:
    failures = [outcome for outcome in outcomes if outcome is not None]
    for failure in failures:
        if not isinstance(failure, StackError):
            raise failure
    if failures:
        raise StackError("\n".join(str(failure) for failure in failures))
