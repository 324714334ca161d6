"""Why a server is not spoken to by TLS, in words that say what to do."""

import ssl
from typing import Final
from urllib.parse import urlsplit

_NAME_DIFFERS: Final = (62, 64)
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""


class TlsRefusedError(ConnectionError):
    """The server has no TLS, or is not the one that the settings trust. It counts as away: that may change."""


def tls_refusal(database_url: str, error: OSError) -> TlsRefusedError | None:
    """What a failed connection to one server was about, where it was about TLS."""
    server = urlsplit(database_url).netloc.rpartition("@")[2]
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _NAME_DIFFERS:
            return TlsRefusedError(
                f"the certificate of Postgres at {server} is for another host ({error.verify_message}): name the host "
                "that it is for in the URL, or LEDGER_DATABASE_TLS=verify-ca if any server of this authority will do"
            )
        return TlsRefusedError(
            f"the certificate of Postgres at {server} is not trusted ({error.verify_message}): LEDGER_DATABASE_CA_FILE "
            "must name the certificate of who signed it"
        )
    if isinstance(error, ssl.SSLError):
        return TlsRefusedError(f"Postgres at {server} and this process agree on no TLS: {error.reason or error}")
    # asyncpg has no type of its own for it.
    if isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error):
        return TlsRefusedError(
            f"Postgres at {server} has no TLS, and the settings demand it (LEDGER_DATABASE_TLS or sslmode in the URL): "
            "switch it on there (ssl = on)"
        )
    return None
