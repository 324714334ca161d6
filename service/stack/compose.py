"""Kafka and Postgres in containers, for running: `docker compose` with this project's own file."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from service.stack.answering import kafka_answers, postgres_answers, until_answering
from service.stack.interface import Addresses, Report, ServerStatus, StackError
from service.stack.ports import LOOPBACK, holder, is_free

COMPOSE_FILE = Path(__file__).parents[2] / "docker-compose.yml"
_SERVICES = ("kafka", "postgres")
_PORT_VARIABLES = {"kafka": "LEDGER_KAFKA_PORT", "postgres": "LEDGER_POSTGRES_PORT"}
_HEALTHY_WITHIN_S = 180
_ANSWERS_WITHIN_S = 20.0
_STOPS_WITHIN_S = 30
_SHOWN_LINES = 12


class ComposeStack:
    """Data lies in named volumes. Containers that ran before the start are used, and run on after the stop."""

    def __init__(self) -> None:
        self._started: tuple[str, ...] = _SERVICES

    @property
    def name(self) -> Literal["docker"]:
        return "docker"

    async def start(self, report: Report) -> Addresses:
        """See `Stack.start`."""
        services = await _configuration()
        running = await _running()
        missing = tuple(service for service in _SERVICES if service not in running)
        for service in missing:
            _require_free_port(service, _published_port(services[service]))
        await _pull_missing(services, report)
        self._started = missing
        if missing:
            report(f"starting containers: {', '.join(missing)}")
        else:
            report("the containers run already and are used")
        try:
            await _compose("up", "--detach", "--wait", "--wait-timeout", str(_HEALTHY_WITHIN_S), *_SERVICES)
            addresses = _addresses(services)
            await _until_both_answer(addresses)
        except BaseException:  # whatever ends the start, Ctrl-C included, leaves no container running
            await self.stop(report)
            raise
        report(f"Kafka answers on {addresses.kafka_bootstrap_servers}")
        report(f"Postgres answers on {LOOPBACK}:{_published_port(services['postgres'])}")
        return addresses

    async def stop(self, report: Report) -> None:
        """See `Stack.stop`."""
        for service in self._started:
            await _compose("stop", "--timeout", str(_STOPS_WITHIN_S), service)
            report(f"container {service} stopped")

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """See `Stack.status`."""
        services = await _configuration()
        addresses = _addresses(services)
        kafka_wrong, postgres_wrong = await asyncio.gather(
            kafka_answers(addresses.kafka_bootstrap_servers), postgres_answers(addresses.database_url)
        )
        database = f"{LOOPBACK}:{_published_port(services['postgres'])}"
        return (
            ServerStatus("kafka", kafka_wrong is None, addresses.kafka_bootstrap_servers),
            ServerStatus("postgres", postgres_wrong is None, database),
        )


async def remove_volumes(report: Report) -> None:
    """Removes the containers of every profile and their volumes: all data that compose keeps for the ledger."""
    report("removing the containers and their volumes")
    await _compose("--profile", "*", "down", "--volumes", "--timeout", str(_STOPS_WITHIN_S))


async def _configuration() -> Mapping[str, Mapping[str, Any]]:
    """The services as compose understands them, with every variable filled in."""
    if not COMPOSE_FILE.exists():
        raise StackError(
            f"{COMPOSE_FILE} is not there: containers are for a clone of the repository. "
            "Set LEDGER_STACK=local, or name servers that run."
        )
    services: Mapping[str, Mapping[str, Any]] = json.loads(await _compose("config", "--format", "json"))["services"]
    return services


def _addresses(services: Mapping[str, Mapping[str, Any]]) -> Addresses:
    environment = services["postgres"]["environment"]
    user, password = environment["POSTGRES_USER"], quote(environment["POSTGRES_PASSWORD"], safe="")
    database = f"{LOOPBACK}:{_published_port(services['postgres'])}/{environment['POSTGRES_DB']}"
    kafka = f"{LOOPBACK}:{_published_port(services['kafka'])}"
    return Addresses(kafka, f"postgresql://{user}:{password}@{database}")


def _published_port(service: Mapping[str, Any]) -> int:
    return int(service["ports"][0]["published"])


async def _running() -> frozenset[str]:
    return frozenset((await _compose("ps", "--services", "--status", "running")).split())


def _require_free_port(service: str, port: int) -> None:
    if not is_free(port):
        raise StackError(
            f"port {port}, on which the container {service} is to be reached, is taken by {holder(port)}. "
            f"Stop that, or choose another port: {_PORT_VARIABLES[service]}={port + 10_000}"
        )


async def _pull_missing(services: Mapping[str, Mapping[str, Any]], report: Report) -> None:
    for service in _SERVICES:
        image = services[service]["image"]
        if await _docker_exit_code("image", "inspect", image) != 0:
            report(f"downloading the image {image}")
            # Its output goes to the terminal as it is: it shows the progress.
            puller = await asyncio.create_subprocess_exec(*_command("pull", service), stdout=2)
            if await _ended(puller) != 0:
                raise StackError(
                    f"the image {image} cannot be downloaded; docker's message is above. "
                    "Set LEDGER_STACK=local to do without images."
                )


async def _until_both_answer(addresses: Addresses) -> None:
    # Healthy inside the container is not yet reachable through the published port.
    wrong = await asyncio.gather(
        until_answering(kafka_answers, addresses.kafka_bootstrap_servers, _ANSWERS_WITHIN_S),
        until_answering(postgres_answers, addresses.database_url, _ANSWERS_WITHIN_S),
    )
    for server, reason in zip(("Kafka", "Postgres"), wrong, strict=True):
        if reason is not None:
            raise StackError(f"the container of {server} is healthy, but cannot be reached from here: {reason}")


async def _compose(*arguments: str) -> str:
    """Its standard output. Raises StackError with the end of its messages when it fails."""
    # In a session of its own: a Ctrl-C is for us, and we end it in order.
    process = await asyncio.create_subprocess_exec(
        *_command(*arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        output, messages = await process.communicate()
    finally:
        await _ended(process)
    if process.returncode != 0:
        shown = "\n".join(f"    {line}" for line in messages.decode(errors="replace").splitlines()[-_SHOWN_LINES:])
        raise StackError(f"docker compose {arguments[0]} failed:\n{shown}")
    return output.decode()


def _command(*arguments: str) -> list[str]:
    return ["docker", "compose", "--file", str(COMPOSE_FILE), *arguments]


async def _docker_exit_code(*arguments: str) -> int:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec("docker", *arguments, stdout=quiet, stderr=quiet)
    return await process.wait()


async def _ended(process: asyncio.subprocess.Process) -> int:
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
