"""A guard that is taken away is noticed, and the run that shows it is made so small that it can be read."""

import sys
import warnings
from collections.abc import Iterator
from dataclasses import replace

import pytest
import structlog

from ledger.event_store.protocol import AppendBatch, AppendResult
from ledger.testing.event_store import InMemoryEventStore
from tests.simulation.__main__ import main
from tests.simulation.running import Outcome, quiet, run_seed
from tests.simulation.shrinking import shrink

SEEDS_MAX = 300


@pytest.fixture(autouse=True)
def silence() -> Iterator[None]:
    """What ends in a simulated crash is not to be told; everything is put back afterwards."""
    hook, configuration = sys.unraisablehook, structlog.get_config()
    with warnings.catch_warnings():
        quiet()
        yield
    sys.unraisablehook = hook
    structlog.configure(**configuration)


@pytest.fixture
def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever appends is taken for the holder."""
    appends = InMemoryEventStore._append

    def unfenced(self: InMemoryEventStore, batch: AppendBatch) -> AppendResult:
        heads = self.record.heads
        batch.heads[:] = [replace(one, epoch=heads[one.partition].epoch) for one in batch.heads]
        return appends(self, batch)

    monkeypatch.setattr(InMemoryEventStore, "_append", unfenced)


def first_failing() -> Outcome:
    return next(outcome for seed in range(SEEDS_MAX) if (outcome := run_seed(seed)).error is not None)


@pytest.mark.usefixtures("no_fence")
def test_a_missing_fence_is_shown_by_a_short_trace(capsys: pytest.CaptureFixture[str]) -> None:
    failed = first_failing()
    shrunk = shrink(failed, runs_max=150)
    assert shrunk.outcome.error is not None
    assert len(shrunk.kept) < len(failed.made) / 2
    assert len(shrunk.kept) <= 8, shrunk.report()
    assert len(shrunk.outcome.trace) < len(failed.trace)
    again = shrunk.report().splitlines()[-1].split("tests.simulation ")[1].split()
    assert main(again) == 1
    assert shrunk.outcome.error in capsys.readouterr().out


def test_what_is_left_out_changes_nothing_else() -> None:
    whole = run_seed(5)
    assert run_seed(5, frozenset(whole.made)).made == whole.made
    undisturbed = run_seed(5, frozenset())
    assert undisturbed.error is None
    assert not undisturbed.made
    one = run_seed(5, frozenset({"c0"}))
    assert one.made == ("c0",)


def test_the_effort_is_limited() -> None:
    runs = 0

    def fails(seed: int, kept: frozenset[str] | None) -> Outcome:
        nonlocal runs
        runs += 1
        made = tuple(sorted(kept or ()))
        return Outcome(
            seed, 0, run_seed(0, frozenset()).faults, made, "ViolationError: invariant 1: x" if made else None
        )

    failed = Outcome(
        0, 0, run_seed(0, frozenset()).faults, tuple(map(str, range(100))), "ViolationError: invariant 1: y"
    )
    assert shrink(failed, runs_max=3, run=fails).runs == runs == 3
    shrunk = shrink(failed, run=fails)
    assert len(shrunk.kept) == 1
