"""The real ledger consumer, relay and projection workers on in-memory servers: no seed breaks an invariant."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.fault_kinds import Fault

SEEDS = 1_000
LIMIT_S = 600
"""On a machine that is busy otherwise: they take 25 s of CPU."""
ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(LIMIT_S)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    """Of all the seeds, run in a process for each core."""
    result = run(str(SEEDS), "0", "--json", "--failures", "1")
    assert result.stdout, result.stderr
    loaded: dict[str, Any] = json.loads(result.stdout)
    assert result.returncode == (1 if loaded["failures"] else 0)
    return loaded


def test_no_seed_breaks_an_invariant(summary: dict[str, Any]) -> None:
    assert not summary["failures"], "\n\n".join(summary["failures"])
    assert summary["seeds"] == SEEDS
    assert summary["events"] > 10 * SEEDS


@pytest.mark.parametrize("fault", list(Fault), ids=lambda fault: fault.name.lower())
def test_every_kind_of_fault_happens(summary: dict[str, Any], fault: Fault) -> None:
    assert summary["faults"][fault.name.lower()] > 0


def test_a_seed_is_the_same_every_time() -> None:
    first, again = (run("40", "0", "--json", "--jobs", "1").stdout for _ in range(2))
    timeless = [{**json.loads(one), "seconds": 0, "cpu_ms_per_seed": 0} for one in (first, again)]
    assert timeless[0] == timeless[1]
