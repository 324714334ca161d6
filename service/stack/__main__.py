"""`python -m service.stack up|down|status|clean`: the servers without the ledger, for work on the ledger itself."""

import argparse
import asyncio
import sys

from ledger.settings import Settings
from service.stack import StackError, remove_state, resolve, running_stack, stack_of, stop_running


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is the command's output


async def _up(settings: Settings) -> int:
    database = settings.database(settings.database_url)
    resolution = resolve(
        settings.stack,
        settings.kafka_bootstrap_servers,
        database,
        settings.home,
        purpose="run",
        kafka_security=settings.kafka_security(),
        brokers=settings.brokers,
    )
    _report(f"stack: {resolution.stack.name} ({resolution.why})")
    addresses = await resolution.stack.start(_report)
    print(f"export LEDGER_KAFKA_BOOTSTRAP_SERVERS={addresses.kafka_bootstrap_servers}")  # noqa: T201
    print(f"export LEDGER_DATABASE_URL={addresses.database_url}")  # noqa: T201
    return 0


async def _down(settings: Settings) -> int:
    if not await stop_running(settings.home, _report):
        _report(f"nothing runs from {settings.home}")
    return 0


async def _clean(settings: Settings) -> int:
    await remove_state(settings.home, _report)
    return 0


async def _status(settings: Settings) -> int:
    running = running_stack(settings.home)
    if running is None:
        _report(f"nothing runs from {settings.home}")
        return 1
    security = settings.kafka_security()
    servers = await stack_of(settings.home, running.stack, running.addresses, kafka_security=security).status()
    for server in servers:
        verdict = "answers" if server.answers else "does not answer"
        process = f" (process {server.pid})" if server.pid else ""
        _report(f"{server.server} {verdict} on {server.address}{process}")
    return 0 if all(server.answers for server in servers) else 1


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m service.stack", description=__doc__)
    commands = {"up": _up, "down": _down, "status": _status, "clean": _clean}
    parser.add_argument("command", choices=commands)
    command = parser.parse_args().command
    try:
        return asyncio.run(commands[command](Settings()))
    except StackError as error:
        _report(f"error: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
