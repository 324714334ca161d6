"""Kafka and Postgres in containers, for testing: testcontainers, whose reaper removes them even after a kill."""

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any, Literal

from service.stack.answering import kafka_answers, postgres_answers, until_answering
from service.stack.interface import Addresses, Report, ServerStatus, StackError
from service.stack.ports import LOOPBACK, choose_free

KAFKA_IMAGE = "apache/kafka:4.2.1"
POSTGRES_IMAGE = "postgres:18"
_POSTGRES_PORT = 5432
_KAFKA_PORT = 19092
_ANSWERS_WITHIN_S = 60.0
_REAPER_PORT = 8080
_REAPER_AGREES = b"ACK"
_REAPER_ANSWERS_WITHIN_S = 20.0
_PAUSE_S = 0.1
_POSTGRES_COMMAND = "postgres -c fsync=off -c synchronous_commit=off -c full_page_writes=off"


class ContainerStack:
    """Everything is new at each start and gone after the stop."""

    def __init__(self) -> None:
        self._containers: list[Any] = []  # testcontainers is there only where tests are run
        self._addresses = Addresses("", "")

    @property
    def name(self) -> Literal["docker"]:
        return "docker"

    async def start(self, report: Report) -> Addresses:
        """See `Stack.start`."""
        try:
            await asyncio.to_thread(self._start, report)
            await self._until_both_answer()
        except BaseException:  # whatever ends the start, Ctrl-C included, leaves no container running
            await self.stop(report)
            raise
        report(f"Kafka and Postgres answer in containers: {self._addresses.kafka_bootstrap_servers}")
        return self._addresses

    async def stop(self, report: Report) -> None:
        """See `Stack.stop`."""
        while self._containers:
            await asyncio.to_thread(self._containers.pop().stop)

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """See `Stack.status`."""
        kafka, database = self._addresses.kafka_bootstrap_servers, self._addresses.database_url
        kafka_wrong, database_wrong = await asyncio.gather(kafka_answers(kafka), postgres_answers(database))
        return (
            ServerStatus("kafka", kafka_wrong is None, kafka),
            ServerStatus("postgres", database_wrong is None, database.rpartition("@")[2]),
        )

    def _start(self, report: Report) -> None:
        try:
            from docker.errors import DockerException  # noqa: PLC0415
            from testcontainers.core.container import DockerContainer  # noqa: PLC0415
        except ImportError as error:
            raise StackError("containers for tests need the package testcontainers: `make test` installs it") from error
        report(f"starting containers of {KAFKA_IMAGE} and {POSTGRES_IMAGE} (downloaded if they are not here)")
        kafka_port, postgres_port = choose_free(2)
        kafka = DockerContainer(KAFKA_IMAGE, hostname="broker").with_bind_ports(_KAFKA_PORT, kafka_port)
        host = _reachable_host(kafka.get_docker_client())
        kafka.with_envs(**_kafka_settings(f"{host}:{kafka_port}"))
        postgres = (
            DockerContainer(POSTGRES_IMAGE)
            .with_bind_ports(_POSTGRES_PORT, postgres_port)
            .with_envs(POSTGRES_USER="ledger", POSTGRES_PASSWORD="ledger", POSTGRES_DB="ledger")  # noqa: S106
            .with_command(_POSTGRES_COMMAND)
        )
        try:
            for container in (kafka, postgres):
                self._containers.append(container)
                container.start()
        except DockerException as error:
            raise StackError(
                f"a container cannot be started: {error}. Set LEDGER_STACK=local to do without."
            ) from error
        _register_with_reaper(kafka.get_docker_client(), host)
        database_url = f"postgresql://ledger:ledger@{host}:{postgres_port}/ledger"
        self._addresses = Addresses(f"{host}:{kafka_port}", database_url)

    async def _until_both_answer(self) -> None:
        wrong = await asyncio.gather(
            until_answering(kafka_answers, self._addresses.kafka_bootstrap_servers, _ANSWERS_WITHIN_S),
            until_answering(postgres_answers, self._addresses.database_url, _ANSWERS_WITHIN_S),
        )
        for container, reason in zip(self._containers, wrong, strict=True):
            if reason is not None:
                output, messages = await asyncio.to_thread(container.get_logs)
                log = (output + messages).decode(errors="replace")[-2000:]
                raise StackError(f"the container of {container.image} does not answer: {reason}. Its log:\n{log}")


# Open until this process ends, which is when the reaper removes what is left of it.
_reaper: list[socket.socket] = []


def _register_with_reaper(client: Any, host: str) -> None:
    """Tells the reaper what to remove when this process is gone, however it went.

    testcontainers registers too, but as soon as it can connect: behind docker's own proxy that is before the reaper
    listens, and the registration is lost without an error. So this one waits for the reaper's answer.
    """
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415
    from testcontainers.core.labels import LABEL_SESSION_ID, SESSION_ID  # noqa: PLC0415

    if testcontainers_config.ryuk_disabled or _reaper:
        return
    container = client.client.containers.get(f"testcontainers-ryuk-{SESSION_ID}")
    port = int(client.port(container.id, _REAPER_PORT))
    deadline = time.monotonic() + _REAPER_ANSWERS_WITHIN_S
    while time.monotonic() < deadline:
        with suppress(OSError):
            connection = socket.create_connection((host, port), timeout=_REAPER_ANSWERS_WITHIN_S)
            connection.sendall(f"label={LABEL_SESSION_ID}={SESSION_ID}\r\n".encode())
            if connection.recv(len(_REAPER_AGREES)) == _REAPER_AGREES:
                _reaper.append(connection)
                return
            connection.close()
        time.sleep(_PAUSE_S)
    raise StackError(f"testcontainers' reaper does not answer within {_REAPER_ANSWERS_WITHIN_S:g} s")


def _reachable_host(client: Any) -> str:
    """The host under which published ports are reached from here. A broker must know it before it starts."""
    from testcontainers.core.config import ConnectionMode  # noqa: PLC0415

    if client.get_connection_mode() == ConnectionMode.docker_host:
        host: str = client.host()
        return LOOPBACK if host == "localhost" else host
    # We run in a container ourselves: published ports lie on the gateway of the default network.
    bridge = client.client.networks.get("bridge")
    return str(bridge.attrs["IPAM"]["Config"][0]["Gateway"])


def _kafka_settings(advertised: str) -> dict[str, str]:
    # One of these variables switches all of the image's defaults off, so the node is described in full.
    settings = {
        "NODE_ID": "1",
        "PROCESS_ROLES": "broker,controller",
        "LISTENERS": f"HOST://:{_KAFKA_PORT},INTERNAL://:9092,CONTROLLER://:9093",
        "ADVERTISED_LISTENERS": f"HOST://{advertised},INTERNAL://broker:9092",
        "LISTENER_SECURITY_PROTOCOL_MAP": "HOST:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "INTER_BROKER_LISTENER_NAME": "INTERNAL",
        "CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "AUTO_CREATE_TOPICS_ENABLE": "false",
        "OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "OFFSETS_TOPIC_NUM_PARTITIONS": "1",
        "TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "TRANSACTION_STATE_LOG_NUM_PARTITIONS": "1",
        "TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "HEAP_OPTS": "-Xmx512m",
    }
    return {f"KAFKA_{name}": value for name, value in settings.items()}
