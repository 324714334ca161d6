"""When a run has failed, its report says why; flat memory is told from growing memory."""

from dataclasses import replace

import pytest

from tests.nemesis.full_audit import FullAudit
from tests.nemesis.memory import MemorySampler, Sample
from tests.nemesis.report import FaultReport, Recovery
from tests.nemesis.schedule import Kind, minimums, plan
from tests.nemesis.soak import OWN, SoakReport


@pytest.fixture
def report() -> FaultReport:
    """Of a run in which all holds."""
    done = [timed.fault for phase in plan(1, 1, disk_can_be_filled=False) for timed in phase.storm]
    audit = FullAudit(new_operation=1)
    return FaultReport(
        1,
        1,
        400,
        minimums(0.5),
        done=done,
        audit=audit,
        verify_says=None,
        recoveries=[Recovery(Kind.KILL, 10, (7.0, 8.0))],
    )


def test_a_run_in_which_all_holds(report: FaultReport) -> None:
    assert report.objections == []
    assert report.document["holds"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"broke_off": "no rest"}, "no rest"),
        ({"done": []}, "too few faults"),
        ({"recoveries": [Recovery(Kind.KILL, 10, (7.0, 10.1))]}, "goes on after 10.1 s"),
        ({"recoveries": [Recovery(Kind.KAFKA_KILL, 15, (7.0, None))]}, "goes on after inf s"),
        ({"audit": FullAudit(violations=["invariant 2"])}, "invariant 2"),
        ({"audit": None}, "ledger verify"),
        ({"verify_says": "VIOLATION"}, "VIOLATION"),
    ],
)
def test_a_run_that_has_failed(report: FaultReport, change: dict[str, object], says: str) -> None:
    changed = replace(report, **change)  # type: ignore[arg-type]
    assert any(says in objection for objection in changed.objections)
    assert not changed.document["holds"]


def sampled(first_mb: float, last_mb: float) -> MemorySampler:
    """A process that grew early, during its warm-up, and then in a straight line."""
    memory = MemorySampler()
    warm_up = [Sample(float(at), 10.0, 10.0) for at in range(50)]
    later = [Sample(50.0 + at, 1.0, first_mb + (last_mb - first_mb) * at / 99) for at in range(100)]
    memory.samples["consumer-1"] = warm_up + later
    return memory


def test_growth_is_looked_at_after_the_warm_up() -> None:
    flat = sampled(100, 102).growth("consumer-1", 50.0)
    growing = sampled(100, 110).growth("consumer-1", 50.0)
    assert flat is not None
    assert growing is not None
    assert 0 < flat.percent < 5 < growing.percent
    assert sampled(100, 100).growth("consumer-1", 145.0) is None, "too few samples"


def test_a_soak_objects_to_growth_of_the_ledgers_own_processes() -> None:
    growth = sampled(100, 110).growth("consumer-1", 50.0)
    assert growth is not None
    flat = [replace(growth, name=name, last_mb=growth.first_mb) for name in OWN]
    report = SoakReport(0.5, 2_000, load_per_s=2_000, growth=flat, audit=FullAudit(), verify_says=None)
    assert report.objections == []
    assert replace(report, growth=[*flat, replace(growth, name="Kafka")]).objections == []
    assert any("grew by" in objection for objection in replace(report, growth=[growth, *flat[1:]]).objections)
    assert any("not measured" in objection for objection in replace(report, growth=flat[1:]).objections)
    assert any("were held" in objection for objection in replace(report, load_per_s=1_000).objections)
