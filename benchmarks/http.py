"""The HTTP service under load, and the ancestor's endpoint beside it: `ledger run http` and plain FastAPI."""

import asyncio
import itertools
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from benchmarks.backlog import until_projected
from benchmarks.commands import make_commands, owner_id
from benchmarks.figures import Figures, percentile
from benchmarks.fresh_ledger import START_LIMIT_S, FreshLedger, fresh_database
from benchmarks.http_load import Load, get, post, put_under_load
from benchmarks.ledger_process import LedgerProcess, MeasurementError, start_process
from benchmarks.meters import CpuMeter
from benchmarks.profiling import Profiler
from benchmarks.publishing import publish_commands
from benchmarks.servers import Servers
from benchmarks.sizes import Sizes
from service.stack.ports import choose_free

CONNECTIONS: Final = 64
BATCH_CONNECTIONS: Final = 8
BATCH_ENTRIES: Final = 100
ENTRIES_PER_OWNER: Final = 10
"""Of every owner beforehand: what the ancestor sums for each balance."""

WARM_UP_S_MAX: Final = 1.0
READY_STEP_S: Final = 0.1
_NO_LIMIT: Final = {"LEDGER_HTTP_RATE_PER_S": "1000000", "LEDGER_HTTP_BURST": "1000000"}
"""The limit on one caller's requests is far below what is to be measured."""

Requests = Callable[[int], Iterator[bytes]]
"""Makes the endless requests of a connection, by its number."""


async def measure_http(ledger: FreshLedger, sizes: Sizes, into: Figures, profiler: Profiler | None = None) -> None:
    """All runs, on a new ledger: single entries, then batches, then balances, and again."""
    commands = make_commands(sizes.http_owners * ENTRIES_PER_OWNER, sizes.http_owners, "uniform", seed=0)
    await publish_commands(ledger, commands)
    [port] = choose_free(1)
    if profiler is not None:
        await profiler.before(ledger)
    settings = {**_NO_LIMIT, "LEDGER_HTTP_PORT": str(port)}
    async with ledger.running("projector", "consumer", "http", settings=settings) as processes:
        await until_projected(ledger, len(commands), processes)
        await _until_ready(port, "/health/ready", processes)
        meter = CpuMeter({**ledger.servers.pids, **{name: process.pid for name, process in processes.items()}})
        for _ in range(sizes.runs):
            for name, requests, connections in (
                ("http_post", _entries("/ledger/entry", sizes.http_owners), CONNECTIONS),
                ("http_post_batch", _batches(sizes.http_owners), BATCH_CONNECTIONS),
                ("http_get", _balances(sizes.http_owners), CONNECTIONS),
            ):
                if profiler is not None:
                    await profiler.start(processes)
                load = await _loaded(port, requests, connections, sizes, meter, name, into)
                if profiler is not None:
                    await profiler.stop(name, len(load.waits_ms))
                if name == "http_post_batch":
                    into.add(name, load.per_s * BATCH_ENTRIES, "entries/s")
                else:
                    into.add(name, load.per_s, "requests/s")


async def measure_ancestor(servers: Servers, sizes: Sizes, into: Figures) -> None:
    """The same requests to `benchmarks.ancestor`, on the same Postgres."""
    async with fresh_database(servers) as database_url:
        [port] = choose_free(1)
        environment = {
            **os.environ,
            "BENCH_ANCESTOR_DATABASE_URL": database_url,
            "BENCH_ANCESTOR_OWNERS": str(sizes.http_owners),
            "BENCH_ANCESTOR_ENTRIES": str(ENTRIES_PER_OWNER),
        }
        module = ["uvicorn", "benchmarks.ancestor:app", "--port", str(port)]
        module += ["--no-access-log", "--log-level", "warning"]
        process = start_process("ancestor", module, environment, servers.home / "ancestor.log")
        try:
            await _until_ready(port, f"/balance/{owner_id(0)}", {"ancestor": process})
            meter = CpuMeter({**servers.pids, "http": process.pid})
            for _ in range(sizes.runs):
                for name, requests in (
                    ("ancestor_post", _entries("/ledger/entry", sizes.http_owners)),
                    ("ancestor_get", _balances(sizes.http_owners)),
                ):
                    load = await _loaded(port, requests, CONNECTIONS, sizes, meter, name, into)
                    into.add(name, load.per_s, "requests/s")
        finally:
            await process.stop()


async def _loaded(
    port: int, requests: Requests, connections: int, sizes: Sizes, meter: CpuMeter, name: str, into: Figures
) -> Load:
    if into.get(f"{name}_p50_ms") is None:
        await put_under_load(port, list(map(requests, range(connections))), min(sizes.http_s, WARM_UP_S_MAX))
    meter.start()
    mine = time.process_time()
    load = await put_under_load(port, list(map(requests, range(connections))), sizes.http_s)
    answered = len(load.waits_ms)
    spent = {**meter.seconds(), "client": time.process_time() - mine}
    into.add(f"{name}_p50_ms", percentile(load.waits_ms, 0.5), "ms")
    into.add(f"{name}_p99_ms", percentile(load.waits_ms, 0.99), "ms")
    for process, seconds in sorted(spent.items()):
        into.add(f"{name}_cpu_us_per_request_{process}", seconds / answered * 1e6, "us")
    return load


async def _until_ready(port: int, path: str, processes: Mapping[str, LedgerProcess]) -> None:
    deadline = time.perf_counter() + START_LIMIT_S
    while True:
        try:
            await put_under_load(port, [itertools.repeat(get(path))], 0.0)
        except (OSError, MeasurementError) as error:
            for process in processes.values():
                process.check()
            if time.perf_counter() > deadline:
                raise MeasurementError(f"the service is not ready: {error}") from error
            await asyncio.sleep(READY_STEP_S)
        else:
            return


def _entries(path: str, owners: int) -> Requests:
    return lambda connection: (post(path, json.dumps(entry).encode()) for entry in _bodies(connection, owners))


def _batches(owners: int) -> Requests:
    def requests(connection: int) -> Iterator[bytes]:
        bodies = _bodies(connection, owners)
        while True:
            entries = list(itertools.islice(bodies, BATCH_ENTRIES))
            yield post("/ledger/entries", json.dumps({"entries": entries}).encode())

    return requests


def _balances(owners: int) -> Requests:
    return lambda connection: (
        get(f"/balance/{owner_id((connection * 7_919 + number * 104_729) % owners)}") for number in itertools.count()
    )


def _bodies(connection: int, owners: int) -> Iterator[dict[str, object]]:
    """An addition, and a spending of the same owner, again and again: all accepted."""
    unique = uuid.uuid4().hex[:12]
    for number in itertools.count():
        owner = owner_id((connection * 7_919 + number // 2 * 104_729) % owners)
        operation, amount = ("CREDIT_SPEND", -1) if number % 2 else ("CREDIT_ADD", 10)
        yield {"operation": operation, "owner_id": owner, "nonce": f"{unique}-{number}", "amount": amount}
