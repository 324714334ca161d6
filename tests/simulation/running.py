"""Runs one seed, and says what came of it."""

import asyncio
import gc
import logging
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, field

import structlog

from tests.simulation import virtual_time
from tests.simulation.fault_kinds import Fault
from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one run."""

    seed: int
    events: int
    faults: Counter[Fault]
    made: tuple[str, ...]
    """The numbers of all that was done to it."""
    error: str | None = None
    trace: tuple[str, ...] = field(default=(), repr=False)

    @property
    def kind(self) -> str:
        """What went wrong, without its particulars: two failures of a kind are taken for the same."""
        words = (self.error or "").split(":")
        return ":".join(words[:2])[:60] if (self.error or "").startswith("ViolationError") else words[0]


def run_seed(seed: int, kept: frozenset[str] | None = None) -> Outcome:
    """Run one seed, with all its decisions or with those that are kept. Never raises what a run breaks."""
    world = World(seed, kept)
    error: str | None = None
    try:
        virtual_time.run(world.live())
    except (Exception, asyncio.CancelledError) as broken:  # whatever it is, it is what the run was for
        error = f"{type(broken).__name__}: {broken}"
    events = sum(len(rows) for rows in world.record.events.values())
    trace = tuple(f"{at_s:9.3f}  {text}" for at_s, text in world.trace) if error else ()
    return Outcome(seed, events, world.chance.counts, tuple(world.chance.made), error, trace)


def quiet() -> None:
    """No logs, and no word about coroutines that end where a simulated crash left them: a failing seed prints its
    trace."""
    sys.unraisablehook = lambda _: None
    warnings.simplefilter("ignore", RuntimeWarning)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.freeze()
