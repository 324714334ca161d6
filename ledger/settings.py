"""Every setting of every process, in one class, read from the environment (prefix `LEDGER_`).

Instantiated in `service` and in an app's `main.py`, nowhere else: everything below takes what it needs as arguments.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

StackChoice = Literal["auto", "external", "docker", "local"]


class Settings(BaseSettings):
    """What may differ from one installation to the next. Names in the environment: `LEDGER_` and the field's name."""

    model_config = SettingsConfigDict(env_prefix="LEDGER_", extra="ignore")

    home: Path = Path(".ledger")
    """Folder of all local state: server data, logs, downloaded servers, the running stack's addresses."""

    stack: StackChoice = "auto"
    """Where Kafka and Postgres come from: see service/stack."""

    kafka_bootstrap_servers: str | None = None
    """`host:port[,host:port]`. Given together with `database_url`, nothing is started."""

    database_url: SecretStr | None = None
    """`postgresql://user:password@host:port/database` of the role that owns the schemas."""

    topic_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "ledger"
    """First part of every topic's and group's name: two ledgers can share one Kafka cluster."""

    partitions: Annotated[int, Field(ge=1, le=4096)] = 12
    """N, the number of partitions of every topic: chosen at the first start, for ever (docs/operating.md)."""

    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies of every topic that the ledger creates; 3 in production."""

    min_insync_replicas: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies that must hold a record before it counts as published; 2 in production."""

    apps: Annotated[tuple[str, ...], NoDecode] = ()
    """Operation classes of apps that are not installed as packages, `module:Class`, separated by commas."""

    service_app: str = "example-app"
    """The app as which the HTTP service publishes while there are no API keys."""

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    outcome_wait_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long a write over HTTP waits for its outcome before it answers 202."""

    read_wait_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How long a read waits for the read model to reach a position before it answers 503."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @field_validator("apps", mode="before")
    @classmethod
    def _split_apps(cls, value: object) -> object:
        # NoDecode keeps the environment's text as it is: names separated by commas, not JSON.
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value
