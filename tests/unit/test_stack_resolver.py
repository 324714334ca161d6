"""Where Kafka and Postgres come from: the order, the forced choices, and the reasons given."""

from pathlib import Path

import pytest

from service.stack import StackError, resolve, resolver
from service.stack.state import remember_used

KAFKA = "127.0.0.1:9092"
DATABASE = "postgresql://ledger:secret@127.0.0.1:5432/ledger"


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "why_no_engine", lambda compose: "no Docker engine answers")


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver, "why_no_engine", lambda compose: None)


@pytest.mark.usefixtures("engine")
def test_servers_named_in_the_environment_come_first(tmp_path: Path) -> None:
    resolution = resolve("auto", KAFKA, DATABASE, tmp_path, purpose="run")
    assert resolution.stack.name == "external"
    assert "LEDGER_DATABASE_URL" in resolution.why


@pytest.mark.usefixtures("engine")
def test_a_docker_engine_comes_second(tmp_path: Path) -> None:
    resolution = resolve("auto", None, None, tmp_path, purpose="run")
    assert (resolution.stack.name, resolution.why) == ("docker", "a Docker engine answers")


@pytest.mark.usefixtures("no_engine")
def test_local_processes_come_last(tmp_path: Path) -> None:
    resolution = resolve("auto", None, None, tmp_path, purpose="run")
    assert (resolution.stack.name, resolution.why) == ("local", "no Docker engine answers")


@pytest.mark.usefixtures("engine")
def test_local_can_be_forced_beside_an_engine_and_named_servers(tmp_path: Path) -> None:
    assert resolve("local", KAFKA, DATABASE, tmp_path, purpose="run").stack.name == "local"


@pytest.mark.usefixtures("no_engine")
def test_docker_that_is_forced_but_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="LEDGER_STACK=docker, but no Docker engine answers"):
        resolve("docker", None, None, tmp_path, purpose="run")


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("kafka", "database", "missing"),
    [(KAFKA, None, "LEDGER_DATABASE_URL is not set"), (None, DATABASE, "LEDGER_KAFKA_BOOTSTRAP_SERVERS is not")],
)
def test_naming_one_server_of_two_is_an_error_not_a_mixture(
    tmp_path: Path, kafka: str | None, database: str | None, missing: str
) -> None:
    with pytest.raises(StackError, match=missing):
        resolve("auto", kafka, database, tmp_path, purpose="run")


def test_external_without_addresses_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="LEDGER_KAFKA_BOOTSTRAP_SERVERS and LEDGER_DATABASE_URL is not set"):
        resolve("external", None, None, tmp_path, purpose="run")


@pytest.mark.usefixtures("engine")
def test_a_home_with_local_data_stays_local_when_an_engine_appears(tmp_path: Path) -> None:
    remember_used(tmp_path, "local")
    resolution = resolve("auto", None, None, tmp_path, purpose="run")
    assert resolution.stack.name == "local"
    assert "LEDGER_STACK=docker" in resolution.why


@pytest.mark.usefixtures("no_engine")
def test_a_home_with_data_in_volumes_does_not_begin_anew_when_the_engine_is_away(tmp_path: Path) -> None:
    remember_used(tmp_path, "docker")
    with pytest.raises(StackError, match="lies in Docker volumes, but no Docker engine answers"):
        resolve("auto", None, None, tmp_path, purpose="run")


@pytest.mark.usefixtures("engine")
def test_tests_choose_as_if_the_home_were_new(tmp_path: Path) -> None:
    remember_used(tmp_path, "local")
    assert resolve("auto", None, None, tmp_path, purpose="test").stack.name == "docker"


@pytest.mark.usefixtures("engine")
def test_several_brokers_are_local_processes_beside_an_engine_too(tmp_path: Path) -> None:
    resolution = resolve("auto", None, None, tmp_path, purpose="run", brokers=3)
    assert (resolution.stack.name, resolution.why) == ("local", "LEDGER_BROKERS=3")


@pytest.mark.usefixtures("engine")
def test_several_brokers_in_containers_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="docker compose --profile cluster up"):
        resolve("docker", None, None, tmp_path, purpose="run", brokers=3)


@pytest.mark.parametrize(("folder", "began_with", "asked_for"), [("kafka", 1, 3), ("kafka-cluster", 3, 1)])
async def test_a_home_keeps_the_number_of_brokers_that_it_began_with(
    tmp_path: Path, folder: str, began_with: int, asked_for: int
) -> None:
    if began_with == 1:
        (tmp_path / folder).mkdir()
    else:
        (tmp_path / folder).write_text(f"id {began_with}")
    stack = resolve("local", None, None, tmp_path, purpose="run", brokers=asked_for).stack
    with pytest.raises(StackError, match=f"set LEDGER_BROKERS={began_with}"):
        await stack.start(lambda line: None)
