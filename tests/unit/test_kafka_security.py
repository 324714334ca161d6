"""How a client is to connect to Kafka: settings that fit together, errors that say what to do, no password anywhere."""

import logging
from pathlib import Path
from typing import Any

import pytest
from aiokafka.protocol.admin import SaslAuthenticateRequest
from aiokafka.protocol.metadata import MetadataRequest
from faststream.security import SASLScram512
from pydantic import SecretStr, ValidationError

from consumers.subscriber import LedgerSubscriber
from consumers.subscriber.faststream_security import faststream_security
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaSecurityError, KafkaServers
from ledger.broker.protocol import BrokerUnavailableError
from ledger.settings import Settings
from producers import LedgerClient

PASSWORD = "hush-hush"
LOGIN = KafkaSecurity(protocol="SASL_SSL", username="till", password=PASSWORD)


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"protocol": "SASL_SSL"}, "LEDGER_KAFKA_USERNAME"),
        ({"protocol": "SASL_PLAINTEXT", "username": "till"}, "LEDGER_KAFKA_PASSWORD"),
        ({"username": "till", "password": PASSWORD}, "LEDGER_KAFKA_SECURITY_PROTOCOL=SASL_SSL"),
        ({"protocol": "SSL", "password": PASSWORD}, "LEDGER_KAFKA_PASSWORD"),
        ({"ca_file": Path("ca.pem")}, "LEDGER_KAFKA_CA_FILE"),
        ({"protocol": "SSL", "key_file": Path("key.pem")}, "LEDGER_KAFKA_CERTIFICATE_FILE"),
        ({"protocol": "TLS"}, "LEDGER_KAFKA_SECURITY_PROTOCOL"),
        ({"mechanism": "GSSAPI"}, "LEDGER_KAFKA_SASL_MECHANISM"),
    ],
)
def test_fields_that_contradict_each_other_are_refused_by_the_name_of_the_setting(
    fields: dict[str, Any], names: str
) -> None:
    with pytest.raises(KafkaSecurityError, match=names) as refused:
        KafkaSecurity(**fields)
    assert PASSWORD not in str(refused.value)


def test_settings_become_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_SSL",
        "SASL_MECHANISM": "SCRAM-SHA-256",
        "USERNAME": "till",
        "PASSWORD": PASSWORD,
        "CA_FILE": "/etc/ca.pem",
        "APP_PRINCIPALS": '{"shop": "User:CN=shop,O=us"}',
    }.items():
        monkeypatch.setenv(f"LEDGER_KAFKA_{name}", value)
    settings = Settings()
    assert settings.kafka_security() == KafkaSecurity(
        protocol="SASL_SSL",
        mechanism="SCRAM-SHA-256",
        username="till",
        password=PASSWORD,
        ca_file=Path("/etc/ca.pem"),
    )
    assert settings.kafka_app_principals == {"shop": "User:CN=shop,O=us"}
    assert PASSWORD not in repr(settings)


def test_settings_that_do_not_fit_are_refused_without_showing_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEDGER_KAFKA_PASSWORD", PASSWORD)
    monkeypatch.setenv("LEDGER_KAFKA_USERNAME", "till")
    with pytest.raises(ValidationError, match="LEDGER_KAFKA_SECURITY_PROTOCOL=SASL_SSL") as refused:
        Settings()
    assert PASSWORD not in str(refused.value)
    with pytest.raises(ValidationError) as other:
        Settings(kafka_password=SecretStr(PASSWORD), kafka_username="till", partitions=0)
    assert PASSWORD not in str(other.value)


async def test_nothing_that_holds_the_password_shows_it() -> None:
    servers = KafkaServers("localhost:1", LOGIN)
    shown = [
        LOGIN,
        servers,
        KafkaRecordReader(servers),
        LedgerClient("till", "localhost:1", security=LOGIN),
        LedgerSubscriber(
            app="till",
            group="till.x",
            kafka_bootstrap_servers="localhost:1",
            on_failure="halt",
            start="beginning",
            security=LOGIN,
        ).broker,
        faststream_security(LOGIN),
    ]
    for one in shown:
        assert PASSWORD not in f"{one!r} {one}"
    assert str(servers) == "localhost:1"


def test_a_login_in_the_clear_is_kept_out_of_debugging_logs(caplog: pytest.LogCaptureFixture) -> None:
    # This is how aiokafka writes down every request at that level.
    secret = SaslAuthenticateRequest(f"\0till\0{PASSWORD}".encode()).prepare({36: (0, 1)})
    harmless = MetadataRequest([]).prepare({3: (0, 5)})
    log = logging.getLogger("aiokafka.conn")
    with caplog.at_level(logging.DEBUG, "aiokafka.conn"):
        for request in (secret, harmless):
            log.debug("Request to %s:%d %d: %s", "localhost", 1, 7, request)
    assert "MetadataRequest" in caplog.text
    assert PASSWORD not in caplog.text


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing = KafkaSecurity(protocol="SSL", ca_file=tmp_path / "missing.pem")
    with pytest.raises(KafkaSecurityError, match=r"missing\.pem.*LEDGER_KAFKA_CA_FILE"):
        missing.ssl_context()
    with pytest.raises(BrokerUnavailableError, match="LEDGER_KAFKA_CA_FILE"):
        KafkaServers("localhost:1", missing).client_settings()
    other = tmp_path / "other.pem"
    other.write_text("no certificate")
    with pytest.raises(KafkaSecurityError, match=r"other\.pem"):
        KafkaSecurity(protocol="SSL", ca_file=other).ssl_context()
    with pytest.raises(KafkaSecurityError, match="LEDGER_KAFKA_CERTIFICATE_FILE"):
        KafkaSecurity(protocol="SSL", certificate_file=other).ssl_context()


def test_certificates_and_names_are_checked_unless_told_otherwise() -> None:
    context = KafkaSecurity(protocol="SSL").ssl_context()
    assert context is not None
    assert context.check_hostname
    unchecked = KafkaSecurity(protocol="SSL", check_hostname=False).ssl_context()
    assert unchecked is not None
    assert not unchecked.check_hostname
    assert unchecked.verify_mode == context.verify_mode, "the authority is checked all the same"


def test_plain_addresses_ask_for_nothing() -> None:
    assert KafkaServers.of("localhost:1") == KafkaServers("localhost:1", NO_SECURITY)
    assert KafkaServers("localhost:1").client_settings() == {"bootstrap_servers": "localhost:1"}
    assert faststream_security(NO_SECURITY) is None


def test_every_login_has_its_counterpart_in_faststream() -> None:
    assert isinstance(faststream_security(LOGIN), SASLScram512)
    certified = faststream_security(KafkaSecurity(protocol="SSL"))
    assert certified is not None
    assert certified.use_ssl
