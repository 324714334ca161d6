"""The guide to publishing is true: its code blocks are the example files, and the files run."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.ledger_on_servers import ledger_on_servers

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guide-publishing.md"
SHOWN = re.findall(r"\[(docs/examples/\S+)\]\(\S+\):\n\n```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


def test_every_example_is_shown_as_it_is() -> None:
    assert {name for name, _ in SHOWN} == {f"docs/examples/{name}.py" for name in ("shop", "top_up", "with_login")}
    for name, code in SHOWN:
        assert code == (ROOT / name).read_text()


async def test_the_examples_run(kafka_bootstrap: str, empty_database_url: str) -> None:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as ledger, ledger.running():

        async def run(example: str, *arguments: str) -> list[str]:
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "LEDGER_KAFKA_BOOTSTRAP_SERVERS": ledger.bootstrap,
                "LEDGER_TOPIC_PREFIX": ledger.topics.prefix,
            }
            program = await asyncio.create_subprocess_exec(
                sys.executable, f"docs/examples/{example}", *arguments,
                cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(60):
                printed, _ = await program.communicate()
            assert program.returncode == 0
            return printed.decode().splitlines()

        partition = ledger.partition("ada")
        assert await run("top_up.py", "ada", "") == [
            "ada 300",
            " the command cannot be sent: owner_id: String should have at least 1 character",
        ]
        assert await run("top_up.py", "ada") == [f"ada DUPLICATE_NONCE: {partition}:1"]
        assert await run("shop.py", "ada", "1") == [f"sold at {partition}:3, 50 credits left"]
        assert await run("shop.py", "ada", "1") == [f"order 1 was paid at {partition}:3"]
        assert await run("shop.py", "ada", "2") == ["ada has 50 credits and needs 250"]
