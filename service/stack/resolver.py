"""Decides where Kafka and Postgres come from, for running and for testing alike, and says why."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity
from service.stack.compose import ComposeStack
from service.stack.containers import ContainerStack
from service.stack.engine import why_no_engine
from service.stack.external import ExternalStack
from service.stack.interface import Addresses, Purpose, Stack, StackError
from service.stack.local import LocalStack
from service.stack.remembered import RememberedStack
from service.stack.state import last_used

StackChoice = Literal["auto", "external", "docker", "local"]

_KAFKA = "LEDGER_KAFKA_BOOTSTRAP_SERVERS"
_DATABASE = "LEDGER_DATABASE_URL"


@dataclass(frozen=True, slots=True)
class Resolution:
    """A stack, not started yet, and the reason for it in words that a person is shown."""

    stack: Stack
    why: str


def default_cache() -> Path:
    """Where downloaded servers are kept for all clones and homes of one user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ledger-stack"


def resolve(
    choice: StackChoice,
    kafka: str | None,
    database: str | None,
    home: Path,
    *,
    purpose: Purpose,
    cache: Path | None = None,
    kafka_security: KafkaSecurity = NO_SECURITY,
    brokers: int = 1,
) -> Resolution:
    """Looks, decides, starts nothing. In this order: servers named in the environment; a Docker engine that
    answers a ping; local processes. A choice other than `auto` forces one of them.

    A home that was used before keeps its kind as long as the choice is `auto`: its data lies there.

    Args:
        choice: `LEDGER_STACK`.
        kafka: `LEDGER_KAFKA_BOOTSTRAP_SERVERS`.
        database: `LEDGER_DATABASE_URL`.
        home: Folder of all local state. For tests one of their own, which is deleted afterwards.
        purpose: For a test everything is new and is gone afterwards, even when the test session is killed.
        cache: Where downloads are kept; `default_cache()` if None.
        kafka_security: How servers named in the environment are spoken to; the ones started here ask for nothing.
        brokers: `LEDGER_BROKERS`. More than one are local processes.

    Raises:
        StackError: What was chosen cannot be had.
    """
    if choice == "external" or (choice == "auto" and (kafka or database)):
        external = _external(kafka, database, kafka_security)
        return Resolution(_remembered(external, home, purpose), f"{_KAFKA} and {_DATABASE} are set")
    if kafka_security != NO_SECURITY:
        raise StackError(
            f"LEDGER_KAFKA_SECURITY_PROTOCOL={kafka_security.protocol} is for brokers of your own, and none are named; "
            f"those started here listen on this machine and ask for nothing. Unset it, or set {_KAFKA} and {_DATABASE}."
        )
    if choice == "local":
        return Resolution(_local(home, purpose, cache, brokers), "LEDGER_STACK=local")
    if brokers > 1:
        if choice == "docker":
            raise StackError(
                f"LEDGER_STACK=docker, but LEDGER_BROKERS={brokers}: set LEDGER_STACK=local to have them as local "
                "processes, or start `docker compose --profile cluster up` and name the servers (docs/local-stack.md)"
            )
        return Resolution(_local(home, purpose, cache, brokers), f"LEDGER_BROKERS={brokers}")
    no_engine = why_no_engine(compose=purpose == "run")
    if choice == "docker":
        if no_engine is not None:
            raise StackError(f"LEDGER_STACK=docker, but {no_engine}. Start one, or set LEDGER_STACK=local.")
        return Resolution(_docker(home, purpose), "LEDGER_STACK=docker")
    used = last_used(home) if purpose == "run" else None
    if used == "local":
        why = f"the data of {home} lies in local processes' files (LEDGER_STACK=docker changes to containers)"
        return Resolution(_local(home, purpose, cache), why if no_engine is None else no_engine)
    if no_engine is None:
        return Resolution(_docker(home, purpose), "a Docker engine answers")
    if used == "docker":
        raise StackError(
            f"the data of {home} lies in Docker volumes, but {no_engine}. Start the engine, "
            "or set LEDGER_STACK=local to begin with an empty ledger in local processes."
        )
    return Resolution(_local(home, purpose, cache), no_engine)


def stack_of(
    home: Path,
    name: str,
    addresses: Addresses,
    cache: Path | None = None,
    kafka_security: KafkaSecurity = NO_SECURITY,
) -> Stack:
    """The stack that `running_stack(home)` tells of, to ask for its status or to stop it."""
    if name == "external":
        return RememberedStack(ExternalStack(addresses, kafka_security), home)
    return _docker(home, "run") if name == "docker" else _local(home, "run", cache)


def _external(kafka: str | None, database: str | None, kafka_security: KafkaSecurity) -> ExternalStack:
    missing = [name for name, value in ((_KAFKA, kafka), (_DATABASE, database)) if not value]
    if not kafka or not database:
        raise StackError(
            f"servers of your own are to be used, but {' and '.join(missing)} is not set. "
            "Set both, or neither to have the servers started for you."
        )
    return ExternalStack(Addresses(kafka, database), kafka_security)


def _local(home: Path, purpose: Purpose, cache: Path | None, brokers: int = 1) -> Stack:
    return _remembered(LocalStack(home, cache or default_cache(), purpose, brokers), home, purpose)


def _docker(home: Path, purpose: Purpose) -> Stack:
    return _remembered(ComposeStack() if purpose == "run" else ContainerStack(), home, purpose)


def _remembered(stack: Stack, home: Path, purpose: Purpose) -> Stack:
    return RememberedStack(stack, home) if purpose == "run" else stack
