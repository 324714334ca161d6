"""Why Kafka lets a client not in, or not do something, in words that say what to do.

aiokafka keeps the reason of a failed start to its log ("Unable to bootstrap"), so it is asked for once more.
"""

import asyncio
import ssl
from typing import Any, Final

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import AccessDeniedError, BrokerUnavailableError

ASK_LIMIT_S: Final = 2.0
"""Per address: how long the question why a start failed may take."""

_RIGHTS_REFUSED: Final = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
)
_NAME_DIFFERS: Final = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""

_ASK_AGAIN_AFTER_S: Final = 0.2
"""A broker that is going down ends connections too, and is gone the next time."""


async def unreachable(kafka: KafkaServers, error: BaseException) -> BrokerUnavailableError:
    """The error to raise where a client could not be started.

    Returns:
        AccessDeniedError where a broker answers and refuses, or is not trusted; otherwise BrokerUnavailableError.
    """
    reasons: list[str] = []
    try:
        settings = kafka.client_settings()
    except BrokerUnavailableError as wrong_files:
        return AccessDeniedError(str(wrong_files))
    for host, port, _ in collect_hosts(kafka.bootstrap_servers):
        reason = await _certain_refusal(kafka, f"{host}:{port}", host, port, settings)
        if reason is not None:
            reasons.append(reason)
    if reasons:
        return AccessDeniedError("; ".join(dict.fromkeys(reasons)))
    return BrokerUnavailableError(f"no Kafka at {kafka}: {error!r}")


def denied(kafka: KafkaServers, error: object, right: str, resource: str) -> str | None:
    """What is missing where Kafka refuses `error` for want of a right; None for any other error.

    Args:
        kafka: whose settings show for whom the brokers take this client.
        error: an exception of aiokafka, or its class.
        right: Kafka's name of the right, such as `WRITE`.
        resource: what it is missing on, such as `topic ledger.events`.
    """
    kind = error if isinstance(error, type) else type(error)
    if not issubclass(kind, _RIGHTS_REFUSED):
        return None
    return (
        f"Kafka does not let {kafka.security.principal} {right} {resource}: give it that right (ACL), for the "
        "principals of a ledger and its apps by `ledger topics sync --acls`"
    )


class _ConnectionEndedError(Exception):
    """The broker took the connection, and ended it over what we said first."""


async def _certain_refusal(
    kafka: KafkaServers, where: str, host: str, port: int, settings: dict[str, Any]
) -> str | None:
    try:
        return await _refusal(kafka, where, host, port, settings)
    except _ConnectionEndedError:
        await asyncio.sleep(_ASK_AGAIN_AFTER_S)
    try:
        return await _refusal(kafka, where, host, port, settings)
    except _ConnectionEndedError:
        return (
            f"Kafka at {where} ends the connection of a client that speaks {kafka.security.protocol}: it asks for "
            "something else there (TLS, a login, a certificate of the client's own); see LEDGER_KAFKA_SECURITY_PROTOCOL"
        )


async def _refusal(kafka: KafkaServers, where: str, host: str, port: int, settings: dict[str, Any]) -> str | None:
    """What keeps a client from being let in at this address; None when nobody answers, or nothing does."""
    security = kafka.security
    connecting = {name: value for name, value in settings.items() if name != "bootstrap_servers"}
    try:
        async with asyncio.timeout(ASK_LIMIT_S):
            connection = await create_conn(
                host, port, client_id="ledger-probe", request_timeout_ms=int(ASK_LIMIT_S * 1000), **connecting
            )
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
    except SaslAuthenticationFailed:
        return (
            f"Kafka at {where} refuses the login of {security.username} by {security.mechanism}: check "
            "LEDGER_KAFKA_USERNAME and LEDGER_KAFKA_PASSWORD, and that the brokers know this user for this mechanism"
        )
    except UnsupportedSaslMechanismError:
        return f"Kafka at {where} takes no login by {security.mechanism}: correct LEDGER_KAFKA_SASL_MECHANISM"
    except IllegalSaslStateError:
        return f"Kafka at {where} asks for no login: set LEDGER_KAFKA_SECURITY_PROTOCOL to what it asks for"
    except ssl.SSLCertVerificationError as error:
        return _untrusted(where, error)
    except ssl.SSLError as error:
        return (
            f"no encrypted connection to Kafka at {where} ({error.reason or error}): it speaks plainly there, or the "
            "two agree on no version; see LEDGER_KAFKA_SECURITY_PROTOCOL"
        )
    except (KafkaConnectionError, ConnectionResetError) as error:
        raise _ConnectionEndedError from error
    except (OSError, KafkaError, TimeoutError):
        return None
    return None


def _untrusted(where: str, error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in _NAME_DIFFERS:
        return (
            f"the certificate of Kafka at {where} is for another name ({error.verify_message}): reach it by a name in "
            "its certificate (LEDGER_KAFKA_BOOTSTRAP_SERVERS, and advertised.listeners of the brokers)"
        )
    return (
        f"the certificate of Kafka at {where} is not trusted ({error.verify_message}): name the authority that issued "
        "it in LEDGER_KAFKA_CA_FILE"
    )
