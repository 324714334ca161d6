"""The real ledger consumer and relay on in-memory Kafka and Postgres: no seed may break an invariant."""

import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tests.simulation.__main__ import run_seed
from tests.simulation.world import quiet

SEEDS = 200
SEEDS_A_TEST = 20


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What ends in a simulated crash is not to be told; everything is put back afterwards."""
    hook, configuration = sys.unraisablehook, structlog.get_config()
    with warnings.catch_warnings():
        quiet()
        yield
    sys.unraisablehook = hook
    structlog.configure(**configuration)


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_no_seed_breaks_an_invariant(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run_seed(seed)
