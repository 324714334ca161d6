"""What every command shares: settings, output, the addresses of the ledger, and how errors become exit codes."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cached_property
from typing import Annotated, Final

import asyncpg
import typer
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ledger.broker.kafka_servers import KafkaSecurityError
from ledger.broker.protocol import AccessDeniedError, BrokerUnavailableError, PublishError
from ledger.event_store.connections import UNAVAILABLE_ERRORS, connect
from ledger.event_store.protocol import RecordMismatchError, StoreUnavailableError
from ledger.messages.topics import Topics
from ledger.operations import OperationsError, Registry, load_registry
from ledger.settings import Settings
from service.addresses import named_addresses
from service.cli.output import CliError, ExitCode, Output
from service.logs import hush_logs
from service.stack import Addresses, Login, StackError, running_stack
from service.wiring import Wiring

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]

READER: Final = "ledger_reader"
OWNER: Final = "ledger_owner"


class Session:
    """One run of one command."""

    def __init__(self, output: Output) -> None:
        self.output = output

    @cached_property
    def settings(self) -> Settings:
        """The settings of the environment. Raises CliError for one that is wrong."""
        try:
            return Settings()
        except ValidationError as error:
            wrong = "; ".join(_told(detail) for detail in error.errors(include_input=False))
            raise CliError(ExitCode.USAGE, f"a setting is wrong: {wrong}", "correct the environment variable") from None

    @cached_property
    def addresses(self) -> Addresses:
        """Where Kafka and Postgres answer: named in the environment, or as the running stack left them."""
        settings = self.settings
        if settings.stack in ("auto", "external"):
            named = named_addresses(settings)
            if named is not None:
                return named
        running = running_stack(settings.home)
        if running is None:
            raise CliError(
                ExitCode.UNAVAILABLE,
                f"no ledger runs from {settings.home.resolve()}",
                "start one with `ledger up`, name another folder in LEDGER_HOME, or set "
                "LEDGER_KAFKA_BOOTSTRAP_SERVERS and LEDGER_DATABASE_URL",
            )
        return running.addresses

    @cached_property
    def topics(self) -> Topics:
        """The names of the topics."""
        return Topics(self.settings.topic_prefix)

    @cached_property
    def registry(self) -> Registry:
        """The registered apps. Raises CliError when a declaration is wrong."""
        return load_registry(self.settings.apps)

    @cached_property
    def wiring(self) -> Wiring:
        """What makes the ledger's parts."""
        try:
            self.settings.kafka_security().ssl_context()
        except KafkaSecurityError as error:
            raise CliError(
                ExitCode.USAGE, f"a setting is wrong: {error}", "correct the environment variable"
            ) from error
        return Wiring(self.settings, self.addresses, self.registry)

    @asynccontextmanager
    async def connection(self, role: str = READER) -> AsyncIterator[asyncpg.Connection]:
        """A connection to Postgres for the time of the block."""
        login: Login = "reader" if role == READER else "owner"
        connection = await connect(self.addresses.database(login), role=role, application="ledger cli")
        try:
            yield connection
        finally:
            connection.terminate()


def run(as_json: bool, work: Callable[[Session], Awaitable[ExitCode | None]]) -> None:
    """Run one command to its end and leave with its exit code."""
    hush_logs()
    output = Output(as_json)
    session = Session(output)
    try:
        code = asyncio.run(_ended(work, session))
    except CliError as error:
        output.error(error)
        code = error.code
    except KeyboardInterrupt:
        output.note("interrupted")
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The reader at the other end of the pipe has seen enough; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.OK
    raise typer.Exit(int(code))


async def _ended(work: Callable[[Session], Awaitable[ExitCode | None]], session: Session) -> ExitCode:
    try:
        return await work(session) or ExitCode.OK
    except (CliError, BrokenPipeError):
        raise
    except StackError as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error)) from error
    except OperationsError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the app's declaration or LEDGER_APPS") from error
    except RecordMismatchError as error:
        raise CliError(ExitCode.NO, str(error)) from error
    except AccessDeniedError as error:
        raise CliError(
            ExitCode.UNAVAILABLE, str(error), "see docs/operating.md, 'Who may write which topic'"
        ) from error
    except (BrokerUnavailableError, PublishError) as error:
        raise CliError(
            ExitCode.UNAVAILABLE,
            f"Kafka at {session.addresses.kafka_bootstrap_servers} does not answer: {error}",
            "see `ledger status`",
        ) from error
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.InvalidParameterValueError) as error:
        # The last one: a role that migrations make is not there.
        raise CliError(ExitCode.NO, f"the database is not migrated: {error}", "run `ledger migrate`") from error
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise CliError(
            ExitCode.UNAVAILABLE, f"Postgres lets us not in: {error}", "check the user and password in the URL"
        ) from error
    except (StoreUnavailableError, *UNAVAILABLE_ERRORS) as error:
        raise CliError(ExitCode.UNAVAILABLE, f"Postgres does not answer: {error}", "see `ledger status`") from error
    except asyncpg.PostgresError as error:
        raise CliError(
            ExitCode.UNAVAILABLE, f"Postgres refuses: {error}", "check LEDGER_DATABASE_URL and the rights of its user"
        ) from error


def _told(detail: ErrorDetails) -> str:
    """One wrong setting by its name; where several contradict each other, the text names them."""
    if not detail["loc"]:
        return detail["msg"].removeprefix("Value error, ")
    return f"LEDGER_{'_'.join(str(part) for part in detail['loc']).upper()}: {detail['msg']}"
