"""Apache Kafka as a local process: broker and controller in one (KRaft), on loopback, alone or one of several."""

import asyncio
import base64
import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaServers
from service.stack.answering import kafka_answers, until_answering
from service.stack.interface import Report, ServerStatus, StackError
from service.stack.java import find_java
from service.stack.kafka_jars import KAFKA_VERSION, kafka_classpath
from service.stack.ports import LOOPBACK, becomes_free, holder
from service.stack.server_process import ServerProcess, last_lines

_STARTS_WITHIN_S = 60.0
_FORMATS_WITHIN_S = 60.0
STOPS_WITHIN_S = 20.0
_LOG4J = Path(__file__).with_name("kafka-log4j2.properties")

_HEAP = ("-Xms64m", "-Xmx384m")
_JVM = (
    *_HEAP,
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

# For one machine: one copy of everything, few threads, quick to come back after a crash.
_PROPERTIES = {
    "process.roles": "broker,controller",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A broker that was killed stays registered until its session ends, and comes back only then.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
    # The default reserves 128 MB of heap for compaction.
    "log.cleaner.dedupe.buffer.size": str(4 * 1024 * 1024),
}


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """What a broker is within its cluster. Numbers of nodes begin at 1."""

    node_id: int
    controller_ports: tuple[int, ...]
    """Of all nodes, in the order of their numbers."""
    cluster_id: str | None = None
    """None: chosen when the storage is formatted, which suits a node that is alone."""

    @property
    def properties(self) -> dict[str, str]:
        """What depends on the size of the cluster: several brokers keep up to three copies, and demand two."""
        copies = min(len(self.controller_ports), 3)
        in_sync = 2 if copies == 3 else 1
        voters = (f"{number}@{LOOPBACK}:{port}" for number, port in enumerate(self.controller_ports, 1))
        return {
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(voters),
            "default.replication.factor": str(copies),
            "min.insync.replicas": str(in_sync),
            "offsets.topic.replication.factor": str(copies),
            "transaction.state.log.replication.factor": str(copies),
            "transaction.state.log.min.isr": str(in_sync),
            "share.coordinator.state.topic.replication.factor": str(copies),
            "share.coordinator.state.topic.min.isr": str(in_sync),
        }


class LocalKafka:
    """Its folder holds the data, the configuration, the log and the pid file."""

    security: KafkaSecurity = NO_SECURITY
    """How a client is let in."""

    def __init__(
        self, folder: Path, cache: Path, port: int, controller_port: int, *, node: KafkaNode | None = None
    ) -> None:
        """`node` where it is one of several; alone otherwise."""
        self.address = f"{LOOPBACK}:{port}"
        self._folder = folder
        self._cache = cache
        self._port = port
        self._controller_port = controller_port
        self._node = node or KafkaNode(1, (controller_port,))
        self._properties = folder / "server.properties"
        self._data = folder / "data"
        self._log = folder / "kafka.log"
        # What it says before its logging works, or when the JVM itself fails.
        self.process = ServerProcess(folder / "pid.json", folder / "kafka.out")

    async def require_free_ports(self) -> None:
        """To be asked before anything is started.

        Raises:
            StackError: Another program has a port of ours.
        """
        if self.process.pid is not None:
            return
        for port in (self._port, self._controller_port):
            if not await becomes_free(port):
                raise StackError(
                    f"port {port}, which Kafka uses from {self._folder.parent}, is taken by {holder(port)}. "
                    f"Stop that, or delete {self._folder.parent / 'ports.json'} to have other ports chosen."
                )

    async def start(self, report: Report) -> None:
        """Returns when the broker answers.

        Raises:
            StackError: No Java, no jars, or a broker that ended or did not answer in time.
        """
        await self.launch(report)
        await self.until_answering(report)

    async def launch(self, report: Report) -> None:
        """Start the process, where none runs. A broker of several answers once most of them run.

        Raises:
            StackError: No Java, or no jars.
        """
        if self.process.pid is not None:
            report(f"Kafka runs already (process {self.process.pid}) and is used: {self.address}")
            return
        command = await asyncio.to_thread(self._prepare, report)
        report("starting Kafka")
        self.process.start(command, os.environ, self._folder)

    async def until_answering(self, report: Report) -> None:
        """Returns when the broker answers.

        Raises:
            StackError: It ended or did not answer in time.
        """
        wrong = await until_answering(
            kafka_answers, self._servers(), _STARTS_WITHIN_S, ended=lambda: self.process.pid is None
        )
        if wrong is not None:
            ended = "ended" if self.process.pid is None else f"does not answer on {self.address} ({wrong})"
            raise StackError(
                f"Kafka was started and {ended}. Its log: {self._folder}\n"
                f"{last_lines(self.process.log_file)}\n{last_lines(self._log)}"
            )
        report(f"Kafka {KAFKA_VERSION} answers on {self.address}")

    async def stop(self, report: Report, within_s: float = STOPS_WITHIN_S) -> None:
        """Orderly within its limit, then by force."""
        ended_by = await self.process.stop([(signal.SIGTERM, within_s)])
        if ended_by is not None:
            report("Kafka stopped" + (" by force" if ended_by is signal.SIGKILL else ""))

    async def status(self) -> ServerStatus:
        """Whether the broker answers now."""
        wrong = await kafka_answers(self._servers())
        return ServerStatus("kafka", wrong is None, self.address, self.process.pid)

    def properties(self) -> dict[str, str]:
        """The broker's configuration."""
        placed = {
            "listeners": f"PLAINTEXT://{self.address},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.address}",
            "log.dirs": str(self._data),
        }
        return _PROPERTIES | self._node.properties | placed

    def format_options(self) -> list[str]:
        """Further options of the tool that formats the storage."""
        return []

    def _servers(self) -> KafkaServers:
        return KafkaServers(self.address, self.security)

    def _prepare(self, report: Report) -> list[str]:
        # In a thread, which a Ctrl-C does not end: so everything but the start of the server itself.
        java, why = find_java()
        report(f"Kafka runs on {why}")
        classpath = kafka_classpath(self._cache, report)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._write_properties()
        jars = os.pathsep.join(str(jar) for jar in classpath)
        if not (self._data / "meta.properties").exists():
            report("formatting Kafka's storage (first start only)")
            self._format([java, *_JVM, "-cp", jars])
        log4j = [f"-Dlog4j2.configurationFile={_LOG4J}", f"-Dledger.kafka.log={self._log}"]
        return [java, *_JVM, *log4j, "-cp", jars, "kafka.Kafka", str(self._properties)]

    def _write_properties(self) -> None:
        lines = [f"{name}={value}" for name, value in self.properties().items()]
        self._properties.write_text("\n".join(lines) + "\n")

    def _format(self, program: list[str]) -> None:
        # A first start that was cut short in here leaves half a format, which Kafka would refuse.
        shutil.rmtree(self._data, ignore_errors=True)
        cluster_id = self._node.cluster_id or new_cluster_id()
        command = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties)]
        command += self.format_options()
        try:
            subprocess.run(  # noqa: S603 - our own command line, no shell
                [*program, *command], check=True, capture_output=True, text=True, timeout=_FORMATS_WITHIN_S
            )
        except subprocess.CalledProcessError as error:
            raise StackError(
                f"Kafka's storage in {self._data} cannot be formatted:\n{error.stdout}{error.stderr}"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise StackError(f"formatting Kafka's storage took longer than {_FORMATS_WITHIN_S:g} s") from error


def new_cluster_id() -> str:
    """16 bytes in URL-safe base64. The first is 0: Kafka's tool takes an id with a leading dash for an option."""
    return base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
