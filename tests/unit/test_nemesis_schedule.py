"""The schedule of a fault run: the same from the same seed, and with enough of everything."""

import pytest

from tests.nemesis.schedule import Fault, Kind, Phase, Tally, hits_consumer, minimums, plan


def faults_of(phases: list[Phase]) -> list[Fault]:
    storms = [timed.fault for phase in phases for timed in phase.storm]
    return storms + [phase.measured for phase in phases if phase.measured is not None]


def test_a_seed_gives_one_schedule() -> None:
    assert plan(7, 10, disk_can_be_filled=True) == plan(7, 10, disk_can_be_filled=True)
    assert plan(7, 10, disk_can_be_filled=True) != plan(8, 10, disk_can_be_filled=True)


@pytest.mark.parametrize("disk_can_be_filled", [True, False])
@pytest.mark.parametrize("minutes", [0.5, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_does_more_than_the_minimums(seed: int, minutes: float, disk_can_be_filled: bool) -> None:
    faults = faults_of(plan(seed, minutes, disk_can_be_filled=disk_can_be_filled))
    assert Tally(faults).reaches(minimums(minutes))
    kinds = {fault.kind for fault in faults}
    assert kinds == set(Kind) - (set() if disk_can_be_filled else {Kind.DISK_FULL})


def test_what_a_schedule_of_ten_minutes_can_spare() -> None:
    """A fault whose target is away when its time comes is left out: so there are more than are asked for."""
    faults = faults_of(plan(1, 10, disk_can_be_filled=False))
    assert minimums(10).faults == 200
    assert minimums(10).of_consumers == 60
    assert minimums(10).of_servers == 20
    assert minimums(10).freezes == 20
    spared = [fault for number, fault in enumerate(faults) if number % 12]
    assert Tally(spared).reaches(minimums(10))


def test_measured_faults_are_alone_and_cover_what_is_to_be_measured() -> None:
    phases = plan(3, 10, disk_can_be_filled=True)
    measured = [phase.measured for phase in phases if phase.measured is not None]
    assert all(not phase.storm for phase in phases if phase.measured is not None)
    kills = [fault for fault in measured if fault.kind is Kind.KILL]
    assert len(kills) >= 3
    assert all(hits_consumer(fault) for fault in kills)
    assert sum(fault.kind is Kind.KAFKA_KILL for fault in measured) >= 3
    assert sum(fault.kind is Kind.POSTGRES_QUIT for fault in measured) >= 3


def test_too_few_faults_are_noticed() -> None:
    faults = faults_of(plan(1, 10, disk_can_be_filled=True))
    assert not Tally([fault for fault in faults if fault.kind is not Kind.FREEZE]).reaches(minimums(10))
    assert not Tally([fault for fault in faults if not hits_consumer(fault)]).reaches(minimums(10))
