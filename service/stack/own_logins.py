"""The logins of the ledger's processes on a stack that we start: chosen at the first start, the same ever after."""

import json
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Final

from ledger.event_store.database_url import with_login
from service.stack.interface import Addresses
from service.stack.postgres_place import write_secret

_FILE: Final = "database-logins.json"
_KINDS: Final = ("writer", "projector", "reader", "app")
PASSWORD_BYTES: Final = 16


def with_own_logins(home: Path, addresses: Addresses) -> Addresses:
    """The addresses with a URL for each kind of process. The logins themselves are made by `create_logins`."""
    passwords = _passwords(home / _FILE)
    urls = {
        kind: with_login(addresses.database_url, f"ledger_{kind}_login", password)
        for kind, password in passwords.items()
    }
    return replace(
        addresses,
        writer_database_url=urls["writer"],
        projector_database_url=urls["projector"],
        reader_database_url=urls["reader"],
        app_database_url=urls["app"],
    )


def _passwords(path: Path) -> dict[str, str]:
    try:
        stored = json.loads(path.read_text())
        return {kind: str(stored[kind]) for kind in _KINDS}
    except (OSError, ValueError, TypeError, KeyError):
        # None yet, or a file that a crash cut short: each start sets the passwords anew, so new ones do as well.
        passwords = {kind: secrets.token_hex(PASSWORD_BYTES) for kind in _KINDS}
        write_secret(path, json.dumps(passwords))
        return passwords
