"""Do the servers answer? Asked with the clients that the ledger itself uses, so that yes means usable."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import TypeVar

import asyncpg
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from ledger.broker.kafka_servers import KafkaServers
from ledger.broker.protocol import AccessDeniedError, BrokerUnavailableError
from ledger.broker.refusals import unreachable
from ledger.event_store.connections import open_connection

_ATTEMPT_S = 3.0
"""Limit of one attempt."""

_PAUSE_S = 0.05
"""Between two attempts while a server is starting."""

_asking: ContextVar[bool] = ContextVar("asking", default=False)


def _is_not_about_our_question(_record: logging.LogRecord) -> bool:
    return not _asking.get()


# A server that does not answer yet is what is being asked here: no error for a log. Other clients' lines stay.
logging.getLogger("aiokafka").addFilter(_is_not_about_our_question)
logging.getLogger("aiokafka.conn").addFilter(_is_not_about_our_question)

Address = TypeVar("Address")
Ask = Callable[[Address], Awaitable[str | None]]
"""Asks the server at an address: None when it answers, otherwise what went wrong, in words."""


async def kafka_answers(kafka: KafkaServers | str) -> str | None:
    """None when a broker is registered and lets us in; otherwise what went wrong, in words."""
    kafka = KafkaServers.of(kafka)
    before = _asking.set(True)
    try:
        async with asyncio.timeout(_ATTEMPT_S):
            await _connects(kafka.bootstrap_servers)
            client = AIOKafkaClient(request_timeout_ms=int(_ATTEMPT_S * 1000), **kafka.client_settings())
            try:
                await client.bootstrap()
                return None if client.cluster.brokers() else "no broker has registered itself yet"
            finally:
                await client.close()
    except TimeoutError:
        return f"no answer within {_ATTEMPT_S:g} s"
    except KafkaError as error:
        refused = await unreachable(kafka, error)
        return str(refused if isinstance(refused, AccessDeniedError) else error) or type(error).__name__
    except (OSError, BrokerUnavailableError, ValueError) as error:
        return str(error) or type(error).__name__
    finally:
        _asking.reset(before)


async def _connects(bootstrap_servers: str) -> None:
    # A plain connection first: quick, and silent in aiokafka's log while nobody listens.
    refused: OSError | None = None
    for server in bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        except OSError as error:
            refused = error
            continue
        writer.close()
        return
    if refused is not None:
        raise refused


async def postgres_answers(database_url: str) -> str | None:
    """None when the database lets the role in; otherwise what went wrong, in words."""
    try:
        connection = await open_connection(database_url, timeout=_ATTEMPT_S)
        await connection.close(timeout=_ATTEMPT_S)
    except TimeoutError:
        return f"no answer within {_ATTEMPT_S:g} s"
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        return str(error) or type(error).__name__
    return None


async def until_answering(
    ask: Ask[Address], address: Address, limit_s: float, ended: Callable[[], bool] = lambda: False
) -> str | None:
    """Asks again until the server answers (None), `ended` says that it never will, or the limit is over."""
    deadline = time.monotonic() + limit_s
    while (wrong := await ask(address)) is not None:
        if ended() or time.monotonic() > deadline:
            return wrong
        await asyncio.sleep(_PAUSE_S)
    return None
