"""Addresses of the database: how TLS is asked for in them, and how they may be shown to people."""

from ipaddress import ip_address
from typing import Final, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
"""As libpq has it: `require` encrypts, `verify-ca` also checks who signed the server's certificate, `verify-full` also
that it was signed for the host that is connected to."""

SCHEMES: Final = ("postgresql", "postgres")
HIDDEN: Final = "***"
_MODE: Final = "sslmode"
_CA_FILE: Final = "sslrootcert"
_SECRETS: Final = frozenset({"password", "sslpassword"})
_ENCRYPTED: Final = frozenset({"require", "verify-ca", "verify-full"})
_ONE_FORM: Final = "expected postgresql://user:password@host:port/database, with %40 for @, %2F for / and so on in the "


def checked(url: str) -> str:
    """The same URL.

    Raises:
        ValueError: it cannot be one; the text holds nothing of it, because what looks like a host may be the rest of a
            password with a slash in it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"not the URL of a database: {_ONE_FORM}password") from None
    if parts.scheme not in SCHEMES or parts.fragment or "@" in parts.path or parts.netloc.count("@") > 1:
        raise ValueError(f"not the URL of a database: {_ONE_FORM}password")
    return url


def with_tls(url: str, mode: TlsMode | None, ca_file: str | None) -> str:
    """The URL with TLS asked for as every client here understands it; what it says itself stays.

    Args:
        url: `postgresql://...`
        mode: None leaves it to the client: TLS where the server has it, unchecked.
        ca_file: PEM file of the certificates that may have signed the server's.
    """
    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = {name for name, _ in query}
    wanted = ((_MODE, mode), (_CA_FILE, ca_file))
    query += [(name, value) for name, value in wanted if value is not None and name not in named]
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote, safe="/")))


def redacted(url: str) -> str:
    """The URL as it may be shown to a person: without its passwords."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = [(key, HIDDEN if key in _SECRETS else value) for key, value in parse_qsl(parts.query)]
    return urlunsplit(
        parts._replace(
            netloc=f"{name}{colon and f':{HIDDEN}'}{at}{hosts}", query=urlencode(query, quote_via=quote, safe="/*")
        )
    )


def with_login(url: str, name: str, password: str) -> str:
    """The same database for another login."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(name, safe='')}:{quote(password, safe='')}@{hosts}"))


def unprotected_host(url: str) -> str | None:
    """The host to which passwords and balances travel in a way that the network can read or change, or None.

    A host of this machine is none, nor one with which TLS is demanded. `prefer` does not demand it: whoever sits
    between can answer for the server that it has none.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    if query.get(_MODE) in _ENCRYPTED:
        return None
    hosts = query.get("host") or parts.netloc.rpartition("@")[2]
    return next((host for host in map(_without_port, hosts.split(",")) if not _is_here(host)), None)


def _without_port(address: str) -> str:
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0]


def _is_here(host: str) -> bool:
    if host in ("", "localhost") or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
