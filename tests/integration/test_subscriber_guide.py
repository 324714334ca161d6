"""The guide to subscribing is true: its code blocks are the example files, and the files run."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from tests.subscriber_topics import Bench, bench

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide-subscribing.md"
SHOWN = re.findall(r"\[(docs/examples/\S+)\]\(\S+\):\n\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture
async def ledger(kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    async with bench(kafka_bootstrap) as made:
        monkeypatch.setenv("LEDGER_KAFKA_BOOTSTRAP_SERVERS", kafka_bootstrap)
        monkeypatch.setenv("LEDGER_TOPIC_PREFIX", made.topics.prefix)
        monkeypatch.syspath_prepend(str(ROOT))
        for name in ("docs.examples.welcome", "docs.examples.welcome_in_fastapi"):
            sys.modules.pop(name, None)
        yield made


def test_every_example_is_shown() -> None:
    assert {name for name, _ in SHOWN} == {
        f"docs/examples/{name}.py" for name in ("welcome", "welcome_in_fastapi", "test_welcome")
    }


@pytest.mark.parametrize(("name", "code"), SHOWN, ids=[name for name, _ in SHOWN])
def test_the_code_shown_is_the_file(name: str, code: str) -> None:
    assert code == (ROOT / name).read_text()


async def test_the_program_greets_new_owners_and_stops_at_sigterm(ledger: Bench) -> None:
    await ledger.publish(
        ledger.chain.posted("ada", "SIGNUP_CREDIT", 3),
        ledger.chain.posted("ada", "CREDIT_ADD", 10),
        ledger.chain.rejected("ada", "SIGNUP_CREDIT", "DUPLICATE_NONCE"),
    )
    program = await asyncio.create_subprocess_exec(
        sys.executable,
        "docs/examples/welcome.py",
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(30):
            lines = [(await program.stdout.readline()).decode() for _ in range(2)]
            program.terminate()
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    partition = ledger.chain.posted("ada", "CREDIT_ADD", 1).partition
    assert lines == [
        f"{partition}:1 welcome ada, you have 3 credits\n",
        f"{partition}:3 ada knows us already: DUPLICATE_NONCE\n",
    ]


async def test_it_runs_in_the_lifespan_of_an_api_and_its_health_says_what_stands_still(
    ledger: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    from docs.examples.welcome_in_fastapi import api

    signup = ledger.chain.posted("ada", "SIGNUP_CREDIT", 3)
    await ledger.publish(signup)
    async with (
        api.router.lifespan_context(api),
        AsyncClient(transport=ASGITransport(api), base_url="http://api") as client,
        asyncio.timeout(30),
    ):
        while (await client.get("/health")).json().get(str(signup.partition)) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await ledger.publish_raw(signup.partition, b"not an event")
        while (answer := await client.get("/health")).status_code != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert "Only the ledger may write there" in answer.json()["detail"]
    assert "welcome ada, you have 3 credits" in capsys.readouterr().out


async def test_the_unit_test_that_is_shown_passes(ledger: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    from docs.examples.test_welcome import test_a_new_owner_is_greeted_once

    await test_a_new_owner_is_greeted_once(capsys)
