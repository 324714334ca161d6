"""The profile `cluster` of docker-compose.yml: three brokers that go on without any one of them."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from service.stack.compose import COMPOSE_FILE

BROKERS = ("kafka-1", "kafka-2", "kafka-3")


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """As compose itself understands the file, which takes no engine."""
    docker = shutil.which("docker")
    if docker is None:
        pytest.skip("no docker command")
    command = [docker, "compose", "--file", str(COMPOSE_FILE), "--profile", "cluster", "config", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "is not a docker command" in done.stderr:
        pytest.skip("no docker compose")
    assert done.returncode == 0, done.stderr
    services: dict[str, Any] = json.loads(done.stdout)["services"]
    return services


def test_the_brokers_form_one_cluster(services: dict[str, Any]) -> None:
    environments = [services[name]["environment"] for name in BROKERS]
    voters = ",".join(f"{number}@{name}:9093" for number, name in enumerate(BROKERS, 1))
    assert {one["KAFKA_CONTROLLER_QUORUM_VOTERS"] for one in environments} == {voters}
    assert len({one["CLUSTER_ID"] for one in environments}) == 1
    assert [one["KAFKA_NODE_ID"] for one in environments] == ["1", "2", "3"]
    for name, environment in zip(BROKERS, environments, strict=True):
        assert environment["KAFKA_ADVERTISED_LISTENERS"].endswith(f"INTERNAL://{name}:9092")


def test_they_keep_three_copies_and_demand_two(services: dict[str, Any]) -> None:
    for name in BROKERS:
        environment = services[name]["environment"]
        factors = {key: value for key, value in environment.items() if key.endswith("REPLICATION_FACTOR")}
        assert len(factors) == 4
        assert set(factors.values()) == {"3"}
        demanded = {value for key, value in environment.items() if key.endswith(("MIN_ISR", "MIN_INSYNC_REPLICAS"))}
        assert demanded == {"2"}
        assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_each_has_its_data_and_its_port_on_loopback(services: dict[str, Any]) -> None:
    assert len({volume["source"] for name in BROKERS for volume in services[name]["volumes"]}) == 3
    for name in BROKERS:
        [port] = services[name]["ports"]
        assert (port["host_ip"], port["target"]) == ("127.0.0.1", 19092)
        listeners = services[name]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        assert listeners.startswith(f"HOST://127.0.0.1:{port['published']},")


def test_nothing_of_it_starts_by_default(services: dict[str, Any]) -> None:
    assert all(services[name]["profiles"] == ["cluster"] for name in BROKERS)
    assert "profiles" not in services["kafka"]
    assert "profiles" not in services["postgres"]
