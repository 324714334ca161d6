"""The logins with which the ledger's processes connect: made, and looked at.

The groups that hold the rights (`ledger_writer`, ...) come with the migrations. A login is a member of one of them, so
that whatever its process is made to say, `SET ROLE` leads nowhere else.
"""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import asyncpg

from ledger.event_store.connections import connect
from ledger.sql_files import sql
from service.stack import Addresses, Login

GROUPS: Final[dict[Login, str]] = {
    "writer": "ledger_writer",
    "projector": "ledger_projector",
    "reader": "ledger_reader",
    "app": "",
}
"""By kind of process. An app that keeps tables of its own has a schema for them, and no right on the ledger."""

LOGINS_OF: Final[Mapping[str, tuple[Login, ...]]] = {
    "consumer": ("writer",),
    "projector": ("projector",),
    "http": ("reader", "app"),
}
"""As whom each process connects."""

SCRAM_ITERATIONS: Final = 4096
_PACKAGE: Final = "service"


class LoginError(Exception):
    """A login cannot be what it should be; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class LoginFound:
    """A kind of process and its login. `problems` is empty when that may do what it needs and no more."""

    kind: Login
    login: str | None
    problems: tuple[str, ...]


async def create_logins(addresses: Addresses) -> list[str]:
    """Make the logins that the addresses name, with the passwords in them; those that exist get these passwords.

    Returns:
        Their names.

    Raises:
        LoginError: one may do more than it should, or is unfit.
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    wanted = {kind: _name_and_password(kind, url) for kind in GROUPS if (url := _own_url(addresses, kind)) is not None}
    names = [name for name, _ in wanted.values()]
    if len(set(names)) < len(names):
        raise LoginError(f"two kinds of processes have the same login ({', '.join(sorted(names))}): name one for each")
    connection = await connect(addresses.database("owner"), role=None, application="ledger roles")
    try:
        # All or none: half of them would start half of the processes.
        async with connection.transaction():
            for kind, (name, password) in wanted.items():
                await connection.execute(sql(_PACKAGE, "name_login"), name, scram_verifier(password), GROUPS[kind])
                await connection.execute(sql(_PACKAGE, "make_login"))
                if kind == "app":
                    await connection.execute(sql(_PACKAGE, "give_schema"))
    except asyncpg.RaiseError as error:
        raise LoginError(str(error)) from error
    except asyncpg.UndefinedObjectError as error:
        raise LoginError(f"the database is not migrated ({error}): run `ledger migrate`") from error
    finally:
        connection.terminate()
    return names


async def check_logins(addresses: Addresses) -> list[LoginFound]:
    """Connect as each kind of process does, and see what it may act as.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses one of them.
    """
    return [await _check(addresses, kind) for kind in GROUPS]


async def _check(addresses: Addresses, kind: Login) -> LoginFound:
    if _own_url(addresses, kind) is None:
        setting = f"LEDGER_{kind.upper()}_DATABASE_URL"
        return LoginFound(kind, None, (f"it has no login of its own and connects as the owner: set {setting}",))
    connection = await connect(addresses.database(kind), role=None, application="ledger roles")
    try:
        found = await connection.fetchrow(sql(_PACKAGE, "read_login"))
    finally:
        connection.terminate()
    assert found is not None  # whoever is connected has a login
    problems = []
    if found["administers"]:
        problems.append("it may administer the server")
    if GROUPS[kind] and GROUPS[kind] not in found["groups"]:
        problems.append(f"it is no member of {GROUPS[kind]}: run `ledger roles create`")
    problems += [f"it may act as {group}" for group in found["groups"] if group != GROUPS[kind]]
    return LoginFound(kind, found["login"], tuple(problems))


def scram_verifier(password: str) -> str:
    """What Postgres keeps of a password. Sent instead of it, so that no log of the server ever holds the password."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, SCRAM_ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{salt64}${stored64}:{server64}"


def _own_url(addresses: Addresses, kind: Login) -> str | None:
    url: str | None = getattr(addresses, f"{kind}_database_url")
    return url


def _name_and_password(kind: Login, url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    setting = f"LEDGER_{kind.upper()}_DATABASE_URL"
    if not name or not password:
        raise LoginError(f"{setting} names no user and password, so no login can be made from it")
    if not password.isascii() or not password.isprintable():
        # Others would have to be normalised before they are hashed (SASLprep).
        raise LoginError(f"the password in {setting} is not of printable ASCII characters: choose another one")
    return name, password
