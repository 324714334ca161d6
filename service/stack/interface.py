"""What every way of having Kafka and Postgres has in common, and the error they raise."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

StackName = Literal["external", "docker", "local"]
Purpose = Literal["run", "test"]
Login = Literal["owner", "writer", "projector", "reader", "app"]
"""Who connects to the database: see docs/operating.md, "Database roles and TLS"."""

Report = Callable[[str], None]
"""Takes one line for a person who watches the start or the stop."""


class StackError(Exception):
    """Kafka or Postgres cannot be had. The message says what happened, to what, and what to do next."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the servers answer."""

    kafka_bootstrap_servers: str
    """`host:port[,host:port]`"""

    # No password of theirs in a traceback or a log: `repr` leaves them out.
    database_url: str = field(repr=False)
    """`postgresql://user:password@host:port/database` of a login that may create schemas and roles. Empty in a process
    that was given a lesser one only."""

    writer_database_url: str | None = field(default=None, repr=False)
    projector_database_url: str | None = field(default=None, repr=False)
    reader_database_url: str | None = field(default=None, repr=False)
    app_database_url: str | None = field(default=None, repr=False)

    def database(self, login: Login) -> str:
        """The URL with which a kind of process connects: its own, or the owner's where it has none.

        Raises:
            StackError: neither is known here.
        """
        own: str | None = getattr(self, f"{login}_database_url") if login != "owner" else None
        url = own or self.database_url
        if not url:
            wanted = "LEDGER_DATABASE_URL" if login == "owner" else f"LEDGER_{login.upper()}_DATABASE_URL"
            raise StackError(f"this acts as the {login} of the database: set {wanted}")
        return url


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server as `status` found it."""

    server: Literal["kafka", "postgres"]
    answers: bool
    address: str
    """`host:port`; empty when nobody knows it yet."""

    pid: int | None = None
    """The process, where it is one of this machine that the stack started."""


class Stack(Protocol):
    """Kafka and Postgres, wherever they come from. One object is used by one task at a time."""

    @property
    def name(self) -> StackName: ...

    async def start(self, report: Report) -> Addresses:
        """Returns when both servers answer. Starting what runs already is no error, unless another runs it.

        Raises:
            StackError: They do not answer within the limit; whatever was started is stopped again.
        """
        ...

    async def stop(self, report: Report) -> None:
        """Stops what `start` started, Kafka first, and returns when it is gone. Stored data stays."""
        ...

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """Kafka and Postgres as they are now. Starts nothing, raises nothing for a server that is away."""
        ...
