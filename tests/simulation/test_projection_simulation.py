"""The real projection worker on in-memory Kafka and Postgres: no seed may lose, double or stop anything."""

import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tests.simulation import virtual_time
from tests.simulation.projection_world import ProjectionWorld
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


def run_seed(seed: int) -> None:
    world = ProjectionWorld(seed)
    try:
        virtual_time.run(world.live())
    except BaseException as error:
        error.add_note("\n".join(["", f"seed {seed}:", *world.trace[-60:]]))
        raise


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
def test_no_seed_breaks_a_read_model(first: int) -> None:
    for seed in range(first, first + SEEDS_A_TEST):
        run_seed(seed)
