"""Every setting of every process, in one class, read from the environment (prefix `LEDGER_`).

Instantiated in `service` and in an app's `main.py`, nowhere else: everything below takes what it needs as arguments.
"""

from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ledger.broker.kafka_servers import KafkaSecurity, SaslMechanism, SecurityProtocol
from ledger.event_store.database_url import TlsMode, checked, with_tls

COPIES_MAX: Final = 3
"""Copies of a topic where nothing else is said, however many brokers there are: two may be lost without losing data."""

StackChoice = Literal["auto", "external", "docker", "local"]


class Settings(BaseSettings):
    """What may differ from one installation to the next. Names in the environment: `LEDGER_` and the field's name."""

    model_config = SettingsConfigDict(
        env_prefix="LEDGER_",
        extra="ignore",
        hide_input_in_errors=True,  # a password that was given to the wrong setting is still a password
    )

    home: Path = Path(".ledger")
    """Folder of all local state: server data, logs, downloaded servers, the running stack's addresses."""

    stack: StackChoice = "auto"
    """Where Kafka and Postgres come from: see service/stack."""

    kafka_bootstrap_servers: str | None = None
    """`host:port[,host:port]`. Given together with `database_url`, nothing is started."""

    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    """How Kafka is spoken to; with it the next seven, see `ledger.broker.kafka_servers.KafkaSecurity`."""

    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca_file: Path | None = None
    kafka_certificate_file: Path | None = None
    kafka_key_file: Path | None = None
    kafka_check_hostname: bool = True

    kafka_consumer_principal: str = "User:ledger"
    """Whom the brokers take the ledger consumers for: `ledger topics sync --acls` gives the rights to these names."""

    kafka_projector_principal: str = "User:ledger-projector"
    kafka_operator_principal: str = "User:ledger-operator"
    kafka_http_principal: str | None = None
    """Of an HTTP service that publishes for the API keys of all apps. None: it logs in as `service_app`, and publishes
    as that app only."""

    kafka_app_principals: dict[str, str] = {}
    """Principals of apps, as JSON, `{"shop": "User:shop-prod"}`; that of an app that is not named is `User:<app>`."""

    database_url: SecretStr | None = None
    """`postgresql://user:password@host:port/database` of the login that owns everything, for migrations, rebuilds and
    recovery. The processes below use it too where they have none of their own (docs/operating.md)."""

    writer_database_url: SecretStr | None = None
    """The same database for the ledger consumers: a login that may append to the record and change nothing in it."""

    projector_database_url: SecretStr | None = None
    """The same database for the projection workers: a login that may write the read models only."""

    reader_database_url: SecretStr | None = None
    """The same database for the HTTP service and whoever only looks: a login that may read only."""

    app_database_url: SecretStr | None = None
    """Where the app that the HTTP service serves keeps what is its own: a login that may write its schema only."""

    database_tls: TlsMode | None = None
    """How the connection to Postgres is protected, where its URL does not say it (`sslmode`). None: where the server
    offers TLS, and unchecked."""

    database_ca_file: FilePath | None = None
    """Certificates (PEM) that may have signed the server's, where its URL does not name them (`sslrootcert`)."""

    topic_prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")] = "ledger"
    """First part of every topic's and group's name: two ledgers can share one Kafka cluster."""

    partitions: Annotated[int, Field(ge=1, le=4096)] = 12
    """N, the number of partitions of every topic: chosen at the first start, for ever (docs/operating.md)."""

    brokers: Annotated[int, Field(ge=1, le=7)] = 1
    """How many Kafka brokers `ledger up` starts as local processes; 3 survive the loss of one (docs/local-stack.md)."""

    replication_factor: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies of every topic that the ledger creates; 3 in production. Not given: as many as `brokers`, at most 3."""

    min_insync_replicas: Annotated[int, Field(ge=1, le=7)] = 1
    """Copies that must hold a record before it counts as published; 2 in production. Not given: 2 where there are 3
    copies."""

    apps: Annotated[tuple[str, ...], NoDecode] = ()
    """Operation classes of apps that are not installed as packages, `module:Class`, separated by commas."""

    service_app: str = "example-app"
    """The app as which the HTTP service publishes while there are no API keys."""

    http_keys: Literal["auto", "required", "open-until-first"] = "auto"
    """When HTTP asks for API keys: see docs/operating.md, 'API keys'."""

    http_rate_per_s: Annotated[float, Field(gt=0)] = 1_000.0
    """Requests that one API key may make a second, at each HTTP service; each command or owner of a batch counts."""

    http_burst: Annotated[int, Field(ge=1_000)] = 5_000
    """So many at once after a pause; a whole batch must fit in."""

    http_under_way_max: Annotated[int, Field(ge=1)] = 1_000
    """Requests that an HTTP service works on at a time; more are refused with 503."""

    http_host: str = "127.0.0.1"
    http_port: Annotated[int, Field(ge=0, le=65535)] = 8000
    outcome_wait_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    """How long a write over HTTP waits for its outcome before it answers 202."""

    read_wait_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    """How long a read waits for the read model to reach a position before it answers 503."""

    clock_skew_limit_s: Annotated[float, Field(gt=0)] = 300.0
    """A difference between a ledger consumer's clock and the database's at which it decides nothing more."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    def database(self, url: SecretStr | None) -> str | None:
        """One of the URLs above as a client takes it, with what the settings say about TLS."""
        if url is None:
            return None
        ca_file = None if self.database_ca_file is None else str(self.database_ca_file.resolve())
        return with_tls(url.get_secret_value(), self.database_tls, ca_file)

    @field_validator(
        "database_url", "writer_database_url", "projector_database_url", "reader_database_url", "app_database_url"
    )
    @classmethod
    def _check_database_url(cls, value: SecretStr | None) -> SecretStr | None:
        return None if value is None else SecretStr(checked(value.get_secret_value()))

    @model_validator(mode="after")
    def _follow_brokers(self) -> Self:
        if "replication_factor" not in self.model_fields_set:
            self.replication_factor = min(self.brokers, COPIES_MAX)
        if "min_insync_replicas" not in self.model_fields_set and self.replication_factor >= COPIES_MAX:
            self.min_insync_replicas = COPIES_MAX - 1
        return self

    @field_validator("apps", mode="before")
    @classmethod
    def _split_apps(cls, value: object) -> object:
        # NoDecode keeps the environment's text as it is: names separated by commas, not JSON.
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @model_validator(mode="after")
    def _kafka_security_is_whole(self) -> Self:
        # ValueError, as pydantic wants it; its text names the settings.
        self.kafka_security()
        return self

    def kafka_security(self) -> KafkaSecurity:
        """How every client of this process connects to Kafka."""
        password = None if self.kafka_password is None else self.kafka_password.get_secret_value()
        return KafkaSecurity(
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=password,
            ca_file=self.kafka_ca_file,
            certificate_file=self.kafka_certificate_file,
            key_file=self.kafka_key_file,
            check_hostname=self.kafka_check_hostname,
        )
