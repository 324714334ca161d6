"""A broker that lets nobody in without a certificate of its own, a login, and rights: real Kafka, as in production.

`python -m tests.secured_kafka FOLDER` starts one for trying things by hand, prints its settings, and runs until Ctrl-C.
"""

import asyncio
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ledger.broker.kafka_servers import KafkaSecurity, KafkaServers
from service.stack.deathwatch import Deathwatch
from service.stack.local_kafka import LocalKafka
from service.stack.ports import LOOPBACK, choose_free
from service.stack.resolver import default_cache
from tests.servers import say, server_home

OPERATOR = "ledger-operator"
"""Of super.users: nobody could give the first rights otherwise."""

USERS = ("ledger", "ledger-projector", OPERATOR, "example-app", "till", "stranger")
CERTIFICATE_USER = "certified"
"""Whom the broker takes the owner of `client_file` for."""

_MECHANISM: Final = "SCRAM-SHA-512"


class SecuredKafka(LocalKafka):
    """SASL_SSL for all clients; another door that asks for a client's certificate instead; StandardAuthorizer."""

    def __init__(self, folder: Path, cache: Path, ports: tuple[int, int, int]) -> None:
        port, controller_port, self._certificate_port = ports
        super().__init__(folder, cache, port, controller_port)
        self.certificate_address = f"localhost:{self._certificate_port}"
        folder.mkdir(parents=True, exist_ok=True)
        self.ca_file = folder / "ca.pem"
        self.foreign_ca_file = folder / "foreign-ca.pem"
        self.client_file = folder / "client.pem"
        self._broker_file = folder / "broker.pem"
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.ca_file)
        trustme.CA().cert_pem.write_to_path(self.foreign_ca_file)
        self._broker_file.write_bytes(_as_java_reads_it(authority.issue_cert("localhost")))
        authority.issue_cert(
            "certified.example", common_name=CERTIFICATE_USER
        ).private_key_and_cert_chain_pem.write_to_path(self.client_file)
        # By name: the certificate is for localhost, and not for 127.0.0.1.
        self.address = f"localhost:{port}"
        self.security = self.login(OPERATOR)

    def login(self, user: str, password: str | None = None) -> KafkaSecurity:
        """How this user is let in."""
        return KafkaSecurity(
            protocol="SASL_SSL",
            mechanism=_MECHANISM,
            username=user,
            password=password or password_of(user),
            ca_file=self.ca_file,
        )

    def as_user(self, user: str) -> KafkaServers:
        """The broker, as this user."""
        return KafkaServers(self.address, self.login(user))

    def environment(self, user: str) -> dict[str, str]:
        """The same as settings of a process."""
        return {
            "LEDGER_KAFKA_BOOTSTRAP_SERVERS": self.address,
            "LEDGER_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "LEDGER_KAFKA_SASL_MECHANISM": _MECHANISM,
            "LEDGER_KAFKA_USERNAME": user,
            "LEDGER_KAFKA_PASSWORD": password_of(user),
            "LEDGER_KAFKA_CA_FILE": str(self.ca_file),
        }

    def properties(self) -> dict[str, str]:
        """As LocalKafka's, but closed. The controller listens on loopback and lets the broker in without a login."""
        doors = f"SASL_SSL://{self.address},SSL://{self.certificate_address}"
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        return super().properties() | {
            "listeners": f"{doors},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": doors,
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": f"{_MECHANISM},PLAIN",
            "sasl.mechanism.inter.broker.protocol": _MECHANISM,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                f'{login} username="{OPERATOR}" password="{password_of(OPERATOR)}";'
            ),
            "listener.name.sasl_ssl.plain.sasl.jaas.config": (
                "org.apache.kafka.common.security.plain.PlainLoginModule required "
                f'user_stranger="{password_of("stranger")}";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._broker_file),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "listener.name.ssl.ssl.client.auth": "required",
            "ssl.principal.mapping.rules": "RULE:^CN=([^,]*),.*$/$1/",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:{OPERATOR};User:ANONYMOUS",  # ANONYMOUS: the broker, on the controller's door alone
        }

    def format_options(self) -> list[str]:
        """The users, who are part of the storage."""
        options = []
        for user in USERS:
            options += ["--add-scram", f"{_MECHANISM}=[name={user},password={password_of(user)}]"]
        return options


def _as_java_reads_it(certificate: trustme.LeafCert) -> bytes:
    """The key as PKCS#8 and the chain; trustme writes keys in OpenSSL's own form."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    chain = b"".join(one.bytes() for one in certificate.cert_chain_pems)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + chain


def password_of(user: str) -> str:
    """Told apart from everything else, so that a test can look for it where it must not be."""
    return f"hush-{user}-hush"


@contextmanager
def running_secured_kafka(home: Path | None = None) -> Iterator[SecuredKafka]:
    """A new broker, gone at the end."""
    with server_home() as temporary:
        ports = choose_free(3)
        kafka = SecuredKafka((home or temporary) / "kafka", default_cache(), (ports[0], ports[1], ports[2]))
        watch = Deathwatch(temporary)  # for a session that is killed; a folder that was named is left alone
        try:
            asyncio.run(kafka.start(say))
            yield kafka
        finally:
            asyncio.run(kafka.stop(say))
            watch.dismiss()


def main() -> None:
    """See the top."""
    with running_secured_kafka(Path(sys.argv[1]).resolve()) as kafka:
        for name, value in kafka.environment(OPERATOR).items():
            print(f"export {name}={shlex.quote(value)}", flush=True)  # noqa: T201
        try:
            asyncio.run(asyncio.Event().wait())
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
