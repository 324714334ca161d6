"""The parts of the local stack that need no server."""

import asyncio
import hashlib
import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import jgo.maven
import pytest

from service.stack import Addresses, RunningStack, StackError, java, kafka_jars, lock_holder, running_stack
from service.stack.local_kafka import new_cluster_id
from service.stack.ports import LOOPBACK, becomes_free, choose_free, holder, is_free
from service.stack.server_process import ServerProcess
from service.stack.state import HomeLock, forget_running, remember_running, remembered_ports

RUNNING = RunningStack("local", Addresses("127.0.0.1:9092", "postgresql://ledger:secret@127.0.0.1:5432/ledger"))


def quiet(_line: str) -> None:
    pass


def test_addresses_are_found_from_another_shell_and_hidden_from_other_users(tmp_path: Path) -> None:
    remember_running(tmp_path, RUNNING)
    assert running_stack(tmp_path) == RUNNING
    assert stat.S_IMODE((tmp_path / "stack.json").stat().st_mode) == 0o600
    forget_running(tmp_path)
    assert running_stack(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"stack": "cloud"}', '{"stack": "local", "port": 1}'])
def test_addresses_that_a_crash_cut_short_are_no_addresses(tmp_path: Path, text: str) -> None:
    (tmp_path / "stack.json").write_text(text)
    assert running_stack(tmp_path) is None


def test_only_one_program_runs_a_ledger_from_a_home(tmp_path: Path) -> None:
    first, second = HomeLock(tmp_path), HomeLock(tmp_path)
    first.acquire()
    assert lock_holder(tmp_path) == os.getpid()
    with pytest.raises(StackError, match=rf"runs already from .* \(process {os.getpid()}\)"):
        second.acquire()
    first.release()
    assert lock_holder(tmp_path) is None
    second.acquire()
    second.release()


def test_ports_are_chosen_once_and_differ(tmp_path: Path) -> None:
    first = remembered_ports(tmp_path, ("kafka", "postgres"))
    assert remembered_ports(tmp_path, ("kafka", "postgres")) == first
    assert first["kafka"] != first["postgres"]


def test_the_holder_of_a_taken_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(port)
        assert f"process {os.getpid()}" in holder(port)
    assert is_free(choose_free(1)[0])


def test_a_pid_that_belongs_to_another_program_by_now_is_not_the_server(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid.json"
    pid_file.write_text(json.dumps({"pid": os.getpid(), "started_at": 1.0}))
    assert ServerProcess(pid_file, tmp_path / "log").pid is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x", "started_at": 1}', '{"pid": 99999999}'])
def test_half_a_pid_file_is_no_server(tmp_path: Path, text: str) -> None:
    pid_file = tmp_path / "pid.json"
    pid_file.write_text(text)
    assert ServerProcess(pid_file, tmp_path / "log").pid is None


def test_no_cluster_id_looks_like_an_option() -> None:
    ids = [new_cluster_id() for _ in range(1_000)]
    assert {len(cluster_id) for cluster_id in ids} == {22}
    assert not any(cluster_id.startswith("-") for cluster_id in ids)


def test_every_jar_is_pinned_once_and_kafka_is_among_them() -> None:
    jars = kafka_jars.pinned_jars()
    assert len({jar.file_name for jar in jars}) == len(jars)
    assert f"kafka_2.13-{kafka_jars.KAFKA_VERSION}.jar" in {jar.file_name for jar in jars}
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


def test_a_jar_that_is_not_what_was_pinned_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deliver_something_else(_resolver: Any, artifact: Any) -> Path:
        path: Path = artifact.cached_path
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * kafka_jars.pinned_jars()[0].size)
        return path

    monkeypatch.setattr(jgo.maven.PythonResolver, "download", deliver_something_else)
    with pytest.raises(StackError, match="has not the pinned SHA-256"):
        kafka_jars.kafka_classpath(tmp_path, quiet)
    assert not list((tmp_path / f"kafka-{kafka_jars.KAFKA_VERSION}").iterdir())


def test_a_damaged_jar_in_the_cache_is_fetched_again_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {name: name.encode() for name in ("one", "two")}
    pins = tmp_path / "pins"
    pins.write_text("".join(f"{hashlib.sha256(b).hexdigest()} {len(b)} org.example:{n}:1\n" for n, b in good.items()))
    fetched = []

    def deliver(_resolver: Any, artifact: Any) -> Path:
        fetched.append(artifact.artifactId)
        path: Path = artifact.cached_path
        path.parent.mkdir(parents=True)
        path.write_bytes(good[artifact.artifactId])
        return path

    monkeypatch.setattr(kafka_jars, "_PINS", pins)
    monkeypatch.setattr(jgo.maven.PythonResolver, "download", deliver)
    one, two = kafka_jars.kafka_classpath(tmp_path / "cache", quiet)
    assert sorted(fetched) == ["one", "two"]
    two.write_bytes(b"tw!")
    kafka_jars.kafka_classpath(tmp_path / "cache", quiet)
    assert fetched[2:] == ["two"]
    assert (one.read_bytes(), two.read_bytes()) == (b"one", b"two")


def _pretend_java(folder: Path, version: str) -> None:
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    program.chmod(0o755)


def test_an_old_java_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_java(tmp_path / "old", "1.8.0_412")
    _pretend_java(tmp_path / "new", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(tmp_path / "new" / "bin") + os.pathsep + os.defpath)
    program, why = java.find_java()
    assert program == str(tmp_path / "new" / "bin" / "java")
    assert why == "Java 21 from the machine"


def test_no_java_at_all_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_java(tmp_path, "11.0.2")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(java, "find_spec", lambda _name: None)
    with pytest.raises(StackError, match=r"Java 17 or newer \(JAVA_HOME: Java 11.*requirements-java.lock"):
        java.find_java()


async def test_a_port_that_a_dying_server_still_holds_is_waited_for() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        waiting = asyncio.create_task(becomes_free(port))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting
