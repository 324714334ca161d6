"""What the figures were measured with: without it they cannot be compared."""

import os
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from benchmarks.servers import Servers
from benchmarks.sizes import PARTITIONS, Sizes
from ledger.sql_files import sql
from service.stack.kafka_jars import KAFKA_VERSION

_LIBRARIES: Final = ("aiokafka", "asyncpg", "fastapi", "msgspec", "pydantic", "sqlalchemy", "uvicorn", "uvloop")


async def header(servers: Servers, sizes: Sizes, label: str) -> dict[str, Any]:
    """Versions, cores, settings; taken before anything is measured."""
    connection = await asyncpg.connect(servers.addresses.database_url)
    try:
        rows = await connection.fetch(sql("benchmarks", "server_settings"))
    finally:
        await connection.close()
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": label,
        "commit": _commit(),
        "stack": servers.stack,
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "kafka": KAFKA_VERSION,
        "postgres": {row["name"]: row["value"] for row in rows},
        "libraries": {name: version(name) for name in _LIBRARIES},
        "partitions": PARTITIONS,
        "durability": "Postgres: every commit of the record waits for the disk. Kafka: acks=all, one broker, written "
        "to disk by the system (the record in Postgres is what counts; topics can be written again from it)",
        "sizes": asdict(sizes),
    }


def _commit() -> str | None:
    try:
        command = ("git", "describe", "--always", "--dirty")
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None  # a copy without its history


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
