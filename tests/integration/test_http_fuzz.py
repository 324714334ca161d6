"""Schemathesis reads the service's OpenAPI document and sends what it allows and what it forbids, to the real service.

Every answer must be one that the document names, of the form that it gives, and none a 500.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from producers.doors import DoorPolicy, doorkeeper
from tests.http_on_servers import HttpOnServers, http_on_servers

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

CHECKS_LEFT_OUT = ",".join(
    [
        "positive_data_acceptance",  # a well-formed command may be refused: for want of credits, for a used nonce
        "use_after_free",  # nothing is ever deleted
        "object_level_authorization",  # all apps share all owners
    ]
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[HttpOnServers]:
    patch = pytest.MonkeyPatch()
    # Whoever tries keys hears 429 after a while; here each must hear 401, which the document promises first.
    patch.setattr(doorkeeper, "FAILURES_AT_ONCE", 1_000_000)
    doors = DoorPolicy("required", rate_per_s=1_000_000, burst=1_000_000)
    async with http_on_servers(kafka_bootstrap, postgres_server_url, doors) as running:
        yield running
    patch.undo()


async def fuzzed(service: HttpOnServers, folder: Path, *options: str) -> None:
    """Run Schemathesis; its report is the failure."""
    (folder / "schemathesis.toml").write_text(
        f'[headers]\nAuthorization = "Bearer {await service.make_key("example-app")}"\n'
        # 503 is an answer by design: to a read that names a position which is not reached yet, for one.
        '[checks.not_a_server_error]\nexpected-statuses = ["2xx", "3xx", "4xx", "503"]\n'
    )
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("st"),
        "run",
        f"{service.url}/openapi.json",
        f"--exclude-checks={CHECKS_LEFT_OUT}",
        "--generation-database=none",
        "--suppress-health-check=all",
        "--request-timeout=30",
        "--no-color",
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
    )
    try:
        told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()[-20_000:]
    assert "Tested: 16" in told.decode(), told.decode()[-5_000:]


async def test_the_service_does_as_its_document_says(service: HttpOnServers, tmp_path: Path) -> None:
    await fuzzed(service, tmp_path, "--phases=fuzzing", "--max-examples=4", "--seed=1")
    await still_whole(service)


@pytest.mark.slow
@pytest.mark.fuzz
async def test_the_service_does_as_its_document_says_for_long(service: HttpOnServers, tmp_path: Path) -> None:
    await fuzzed(service, tmp_path, "--phases=examples,coverage,fuzzing,stateful", "--max-time=240")
    await still_whole(service)


async def still_whole(service: HttpOnServers) -> None:
    """After all that the ledger stands: nothing halted, nothing below zero, and everything is answered."""
    key = await service.make_key("example-app")
    async with httpx.AsyncClient(base_url=service.url, headers={"X-API-Key": key}, timeout=60) as client:
        command = {"operation": "CREDIT_ADD", "owner_id": "after", "nonce": key[:30], "amount": 1}
        assert (await client.post("/ledger", json=command)).status_code == 200
        ready = (await client.get("/health/ready")).json()
        assert [one["halted_because"] for one in ready["consumer_partitions"] if one["halted_because"]] == []
    await service.ledger.until("SELECT count(*) FROM ledger.account WHERE balance < 0", 0)
