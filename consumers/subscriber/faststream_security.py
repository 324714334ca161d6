"""How FastStream's broker connects to Kafka: the one security value in FastStream's words."""

from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from ledger.broker.kafka_servers import KafkaSecurity

_WITH_LOGIN = {"SCRAM-SHA-512": SASLScram512, "SCRAM-SHA-256": SASLScram256, "PLAIN": SASLPlaintext}


def faststream_security(security: KafkaSecurity) -> BaseSecurity | None:
    """What `KafkaBroker(security=...)` takes; None where nothing is asked for.

    Raises:
        KafkaSecurityError: a file of certificates cannot be used.
    """
    context = security.ssl_context()
    if security.with_login:
        assert security.username is not None, "a login has a name"
        assert security.password is not None, "and a password"
        return _WITH_LOGIN[security.mechanism](
            security.username, security.password, ssl_context=context, use_ssl=security.encrypted
        )
    return None if context is None else BaseSecurity(ssl_context=context, use_ssl=True)
