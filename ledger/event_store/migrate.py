"""Brings a database to the schema of this version, and sets up a new ledger in it."""

from argparse import Namespace
from importlib import resources
from pathlib import Path
from typing import Final

import asyncpg
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from alembic import command

_PACKAGED: Final = "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Migrate up. Runs an event loop of its own: call it in a thread from async code.

    Raises:
        OSError, asyncpg.PostgresError: Postgres is away or refuses.
    """
    try:
        command.upgrade(_config(database_url), revision)
    except DBAPIError as error:
        # The driver's own error, which everybody here knows; SQLAlchemy's hides it in one of its own.
        refused = None if error.orig is None else error.orig.__cause__
        if not isinstance(refused, asyncpg.PostgresError):
            raise
        raise refused from None


def downgrade(database_url: str, revision: str, *, discard_events: bool = False) -> None:
    """Migrate down; refused with SystemExit while events exist, unless they may be discarded."""
    config = _config(database_url)
    if discard_events:
        config.cmd_opts = Namespace(x=["discard-events=yes"])
    command.downgrade(config, revision)


def _config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_script_location()))
    config.attributes["database_url"] = database_url
    return config


def _script_location() -> Path:
    # In a wheel the migrations lie beside this file; in a checkout in the top-level folder `alembic`, which must have
    # no __init__.py, or it would hide the library of the same name.
    packaged = Path(str(resources.files("ledger.event_store").joinpath(_PACKAGED)))
    return packaged if packaged.is_dir() else Path(__file__).parents[2] / "alembic"
