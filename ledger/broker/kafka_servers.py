"""Where Kafka is, and how a client protects the way there and shows who it is: one value for every client."""

import logging
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, get_args

from aiokafka.protocol.admin import SaslAuthenticateRequest
from aiokafka.protocol.api import RequestStruct

from ledger.broker.protocol import BrokerUnavailableError

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

ANONYMOUS: Final = "User:ANONYMOUS"
"""Kafka's name for a client that shows nothing."""


class KafkaSecurityError(ValueError):
    """The settings of the connection to Kafka contradict each other, or a file that they name cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSecurity:
    """How a client and Kafka's brokers trust each other; nothing at all unless a protocol is named.

    Each field has a setting of the same name: `LEDGER_KAFKA_` and the name, `LEDGER_KAFKA_SECURITY_PROTOCOL` and
    `LEDGER_KAFKA_SASL_MECHANISM` for the first two. The password appears in no representation.

    Raises:
        KafkaSecurityError: fields contradict each other; the text says what to set.
    """

    protocol: SecurityProtocol = "PLAINTEXT"
    """SSL: the way is encrypted and the broker shows a certificate. SASL: the client shows a user name."""

    mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How the user's password is shown. PLAIN sends it as it is."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """Certificates (PEM) of the authorities that the broker's may come from; None: those that this machine trusts."""

    certificate_file: Path | None = None
    """The client's own certificate (PEM), where brokers ask for one."""

    key_file: Path | None = None
    """Its key (PEM, not encrypted); None: it lies in `certificate_file`."""

    check_hostname: bool = True
    """Whether the broker's certificate must be for the name by which it is reached."""

    def __post_init__(self) -> None:
        wrong = next(self._contradictions(), None)
        if wrong is not None:
            raise KafkaSecurityError(wrong)

    @property
    def encrypted(self) -> bool:
        """Whether the way to the broker is encrypted."""
        return self.protocol in {"SSL", "SASL_SSL"}

    @property
    def with_login(self) -> bool:
        """Whether the client shows a user name."""
        return self.protocol in {"SASL_SSL", "SASL_PLAINTEXT"}

    @property
    def principal(self) -> str:
        """Who the brokers take this client for, as far as can be told from here."""
        if self.with_login:
            return f"User:{self.username}"
        return ANONYMOUS if self.certificate_file is None else f"the owner of {self.certificate_file}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """What encrypts the way; None when nothing does. Read anew for each client, so that files can be renewed.

        Raises:
            KafkaSecurityError: a file is missing or holds something else.
        """
        if not self.encrypted:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise KafkaSecurityError(
                f"{self.ca_file} holds no readable certificates ({error}): correct LEDGER_KAFKA_CA_FILE (ca_file)"
            ) from error
        context.check_hostname = self.check_hostname
        if self.certificate_file is not None:
            try:
                # An empty password rather than a question on the terminal.
                context.load_cert_chain(self.certificate_file, self.key_file, password="")
            except (OSError, ssl.SSLError) as error:
                raise KafkaSecurityError(
                    f"{self.certificate_file} and {self.key_file or 'the key in it'} cannot be used ({error}): correct "
                    "LEDGER_KAFKA_CERTIFICATE_FILE and LEDGER_KAFKA_KEY_FILE (certificate_file, key_file)"
                ) from error
        return context

    def _contradictions(self) -> Iterator[str]:
        if self.protocol not in get_args(SecurityProtocol):
            yield f"LEDGER_KAFKA_SECURITY_PROTOCOL (protocol) is one of {', '.join(get_args(SecurityProtocol))}"
        if self.mechanism not in get_args(SaslMechanism):
            yield f"LEDGER_KAFKA_SASL_MECHANISM (mechanism) is one of {', '.join(get_args(SaslMechanism))}"
        chosen = f"with LEDGER_KAFKA_SECURITY_PROTOCOL={self.protocol}"
        if self.with_login:
            for name, value in (("USERNAME", self.username), ("PASSWORD", self.password)):
                if not value:
                    yield f"{chosen} a client logs in: set LEDGER_KAFKA_{name} ({name.lower()}) too"
        elif self.username or self.password:
            yield (
                f"{chosen} nobody logs in, and LEDGER_KAFKA_USERNAME or LEDGER_KAFKA_PASSWORD would not be used: unset "
                "them, or set LEDGER_KAFKA_SECURITY_PROTOCOL=SASL_SSL"
            )
        files = (self.ca_file, self.certificate_file, self.key_file)
        if not self.encrypted and any(file is not None for file in files):
            yield (
                f"{chosen} nothing is encrypted, and LEDGER_KAFKA_CA_FILE, _CERTIFICATE_FILE and _KEY_FILE would not "
                "be used: unset them, or set LEDGER_KAFKA_SECURITY_PROTOCOL=SASL_SSL (or SSL)"
            )
        if self.key_file is not None and self.certificate_file is None:
            yield "LEDGER_KAFKA_KEY_FILE (key_file) is the key of a certificate: set LEDGER_KAFKA_CERTIFICATE_FILE too"


NO_SECURITY: Final = KafkaSecurity()


@dataclass(frozen=True, slots=True)
class KafkaServers:
    """Where Kafka is (`host:port[,host:port]`) and how to connect. Shown as the addresses alone."""

    bootstrap_servers: str
    security: KafkaSecurity = NO_SECURITY

    @classmethod
    def of(cls, servers: "KafkaServers | str") -> "KafkaServers":
        """These servers; plain addresses stand for brokers that ask for nothing."""
        return servers if isinstance(servers, KafkaServers) else cls(servers)

    def __str__(self) -> str:
        return self.bootstrap_servers

    def client_settings(self) -> dict[str, Any]:
        """What every client of aiokafka takes to connect.

        Raises:
            BrokerUnavailableError: a file of certificates cannot be used now.
        """
        security = self.security
        settings: dict[str, Any] = {"bootstrap_servers": self.bootstrap_servers}
        if security.protocol == "PLAINTEXT":
            return settings
        try:
            settings |= {"security_protocol": security.protocol, "ssl_context": security.ssl_context()}
        except KafkaSecurityError as error:
            raise BrokerUnavailableError(str(error)) from error
        if security.with_login:
            settings |= {
                "sasl_mechanism": security.mechanism,
                "sasl_plain_username": security.username,
                "sasl_plain_password": security.password,
            }
        return settings


def _holds_no_password(record: logging.LogRecord) -> bool:
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(
        isinstance(one, RequestStruct) and one.API_KEY == SaslAuthenticateRequest.API_KEY for one in arguments
    )


# At level DEBUG aiokafka writes down every request, and that of a PLAIN login holds the password as it is.
logging.getLogger("aiokafka.conn").addFilter(_holds_no_password)
