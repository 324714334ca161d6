"""`python -m tests.simulation [SEEDS] [FIRST]`: run seeds; a failing one prints its trace and how to run it again."""

import sys
import time

from tests.simulation import virtual_time
from tests.simulation.world import World, quiet


def run_seed(seed: int) -> World:
    """Run one seed; raises what it breaks."""
    world = World(seed)
    try:
        virtual_time.run(world.live())
    except BaseException as error:
        error.add_note(
            "\n".join(["", f"seed {seed}:", *world.trace[-60:], f"again: python -m tests.simulation 1 {seed}"])
        )
        raise
    return world


def main() -> None:
    quiet()
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    began = time.perf_counter()
    events = 0
    for seed in range(first, first + count):
        events += len(run_seed(seed).rows())
    seconds = time.perf_counter() - began
    print(f"{count} seeds from {first}: {events} events, {seconds:.1f} s, {seconds / count * 1000:.1f} ms a seed")  # noqa: T201


if __name__ == "__main__":
    main()
