"""What a service would write instead of a ledger: the same commands, durable in the same Postgres, no Kafka.

Each does the same durable work: an entry with all that it has to tell, a balance that is locked, checked and moved in
the order of the commands, nonces and command ids unique for ever, the disk waited for at every commit, and an answer to
the client for each command. The accounts exist beforehand, which favours the baselines. There is no chain, no read
model and nobody to tell; refusals are answered and not recorded.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final

import asyncpg

from benchmarks.commands import make_commands
from benchmarks.figures import Figures
from benchmarks.fresh_ledger import fresh_database
from benchmarks.ledger_process import MeasurementError
from benchmarks.servers import Servers
from benchmarks.sizes import Sizes
from ledger.domain.command import Command
from ledger.domain.limits import DEFAULT_CREDIT_TYPE
from ledger.sql_files import sql

CONNECTIONS: Final = 16
BATCH_COMMANDS: Final = 100
BATCH_CONNECTIONS: Final = 4
"""More gain nothing on two cores."""

COMMANDS_PER_S_MAX: Final = 80_000
"""So many commands are made for every second of a baseline; one that is faster ends early."""

_PACKAGE: Final = "benchmarks"
_SCHEMA: Final = (
    *("create_naive_account", "create_naive_entry", "create_naive_answer"),
    *("create_naive_post", "create_naive_post_batch"),
)

Post = Callable[[asyncpg.Connection, list[Command]], Awaitable[int]]
"""Posts commands; how many were accepted."""


async def measure_baselines(servers: Servers, sizes: Sizes, run: int, into: Figures) -> None:
    """One run of each, on a database of its own."""
    for name, connections, batch, post in (
        ("naive_1", 1, 1, _post_in_transaction),
        ("naive_16", CONNECTIONS, 1, _post_in_transaction),
        ("function_16", CONNECTIONS, 1, _post_by_function),
        (f"function_batch_{BATCH_COMMANDS}", BATCH_CONNECTIONS, BATCH_COMMANDS, _post_batch),
    ):
        per_s = await _measure(servers, sizes, run, connections, batch, post)
        into.add(name, per_s, "commands/s")


async def _measure(servers: Servers, sizes: Sizes, run: int, connections: int, batch: int, post: Post) -> float:
    count = int(sizes.baseline_s * (COMMANDS_PER_S_MAX if batch > 1 else COMMANDS_PER_S_MAX / 4))
    commands = make_commands(count, sizes.backlog_owners, "uniform", seed=run)
    async with fresh_database(servers) as database_url:
        pool = [await asyncpg.connect(database_url) for _ in range(connections)]
        try:
            for statement in _SCHEMA:
                await pool[0].execute(sql(_PACKAGE, statement))
            owners = sorted({command.owner_id for command in commands})
            await pool[0].execute(sql(_PACKAGE, "insert_naive_accounts"), owners, DEFAULT_CREDIT_TYPE)
            await pool[0].execute(sql(_PACKAGE, "checkpoint"))
            waiting = _batches(commands, batch)
            began = time.perf_counter()
            done = await asyncio.gather(*(_work(one, waiting, began + sizes.baseline_s, post) for one in pool))
            elapsed_s = time.perf_counter() - began
            [found] = await pool[0].fetch(sql(_PACKAGE, "check_naive"))
        finally:
            for one in pool:
                await one.close()
    posted = sum(accepted for accepted, _ in done)
    if found["entries"] != posted or found["credited"] != found["balances"]:
        raise MeasurementError(f"the baseline posted {posted} commands and holds {dict(found)}")
    return sum(asked for _, asked in done) / elapsed_s


def _batches(commands: list[Command], size: int) -> Iterator[list[Command]]:
    return (commands[begin : begin + size] for begin in range(0, len(commands), size))


async def _work(
    connection: asyncpg.Connection, waiting: Iterator[list[Command]], until: float, post: Post
) -> tuple[int, int]:
    posted = asked = 0
    for commands in waiting:
        posted += await post(connection, commands)
        asked += len(commands)
        if time.perf_counter() >= until:
            break
    return posted, asked


async def _post_in_transaction(connection: asyncpg.Connection, commands: list[Command]) -> int:
    [command] = commands
    amount = command.amount or 0
    account = command.owner_id, command.credit_type
    async with connection.transaction():
        held = await connection.fetchrow(sql(_PACKAGE, "lock_naive_balance"), *account)
        assert held is not None
        balance, version = held["balance"] + amount, held["version"] + 1
        if balance < 0:
            return 0  # another connection overtook the command before it
        await connection.fetchval(sql(_PACKAGE, "insert_naive_entry"), *_arguments(command), balance, version)
        await connection.execute(sql(_PACKAGE, "update_naive_balance"), *account, balance, version)
    return 1


async def _post_by_function(connection: asyncpg.Connection, commands: list[Command]) -> int:
    [command] = commands
    [answer] = await connection.fetch(sql(_PACKAGE, "call_naive_post"), *_arguments(command))
    return int(answer["outcome"] == "posted")


async def _post_batch(connection: asyncpg.Connection, commands: list[Command]) -> int:
    columns = zip(*map(_arguments, commands), strict=True)
    answers = await connection.fetch(sql(_PACKAGE, "call_naive_post_batch"), *map(list, columns))
    return sum(answer["outcome"] == "posted" for answer in answers)


def _arguments(command: Command) -> tuple[Any, ...]:
    return (
        command.app,
        command.command_id,
        command.operation,
        command.owner_id,
        command.credit_type,
        command.nonce,
        command.amount,
        command.issued_at,
        command.metadata,
    )
