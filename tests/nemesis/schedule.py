"""What the nemesis does and when: drawn from a seed, so that a run can be had again."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

CONSUMERS: Final = ("consumer-1", "consumer-2", "consumer-3")
PROJECTORS: Final = ("projector-1", "projector-2")
PUBLISHERS: Final = ("waits-example", "waits-shop", "publishes-example", "publishes-shop")
KAFKA: Final = "kafka"
POSTGRES: Final = "postgres"
EVERYBODY: Final = "everybody"

SESSION_TIMEOUT_S: Final = 6.0
"""Of the ledger's groups: a process that is frozen for longer has lost its partitions when it thaws."""

STORM_SHARE: Final = 0.72
"""Of a run's time: faults overlap. In the rest single faults are measured, with quiet around them."""

_MEASURED_EVERY_MINUTES: Final = 3.5


class Kind(StrEnum):
    """One sort of fault."""

    KILL = "kill -9"
    FREEZE = "SIGSTOP past the session timeout"
    KAFKA_KILL = "kill -9 of Kafka"
    POSTGRES_QUIT = "immediate shutdown of Postgres"
    TERMINATE = "pg_terminate_backend in mid-transaction"
    CUT_AFTER_COMMIT = "cut between COMMIT and its answer"
    CUT = "connections cut"
    BLOCK = "traffic blocked one way"
    DELAY = "traffic slowed down"
    DISK_FULL = "full disk for Postgres"
    POISON = "poison messages"
    ROLLING_RESTART = "rolling restart with a new operation"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `target` is a process, a server, or everybody; `link` the server at the other end of a connection."""

    kind: Kind
    target: str
    lasts_s: float = 0.0
    link: str = ""
    to_server: bool = True

    def __str__(self) -> str:
        way = f" {'to' if self.to_server else 'from'} {self.link}" if self.kind is Kind.BLOCK else ""
        way = f" and {self.link}" if self.link and not way else way
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.kind}: {self.target}{way}{lasts}"


@dataclass(frozen=True, slots=True)
class Timed:
    """A fault of a storm, so many seconds after the storm's begin."""

    at_s: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Phase:
    """A storm, or one fault that is measured: then nothing else happens until everything goes on."""

    storm: tuple[Timed, ...] = ()
    storm_s: float = 0.0
    measured: Fault | None = None


@dataclass(frozen=True, slots=True)
class Minimums:
    """What a run has to do, at least."""

    faults: int
    of_consumers: int
    of_servers: int
    freezes: int


class Tally(Counter[Kind]):
    """Faults that were done."""

    def __init__(self, faults: Sequence[Fault] = ()) -> None:
        super().__init__(fault.kind for fault in faults)
        self.of_consumers = sum(hits_consumer(fault) for fault in faults)
        self.of_servers = sum(fault.kind in _SERVER_KINDS for fault in faults)

    def reaches(self, minimums: Minimums) -> bool:
        """Whether it is enough."""
        return (
            self.total() >= minimums.faults
            and self.of_consumers >= minimums.of_consumers
            and self.of_servers >= minimums.of_servers
            and self[Kind.FREEZE] >= minimums.freezes
        )


_SERVER_KINDS: Final = (Kind.KAFKA_KILL, Kind.POSTGRES_QUIT, Kind.DISK_FULL)

# (kind, class of target, link, how many in ten minutes). Some more than the minimums ask for: a fault whose target is
# away when its time comes is left out.
_STORM: Final = (
    (Kind.KILL, CONSUMERS, "", 24),
    (Kind.KILL, PROJECTORS, "", 9),
    (Kind.KILL, PUBLISHERS, "", 14),
    (Kind.FREEZE, CONSUMERS, "", 16),
    (Kind.FREEZE, PROJECTORS, "", 8),
    (Kind.FREEZE, PUBLISHERS, "", 10),
    (Kind.KAFKA_KILL, (KAFKA,), "", 9),
    (Kind.POSTGRES_QUIT, (POSTGRES,), "", 9),
    (Kind.DISK_FULL, (POSTGRES,), "", 2),
    (Kind.TERMINATE, CONSUMERS, POSTGRES, 20),
    (Kind.TERMINATE, PROJECTORS, POSTGRES, 5),
    (Kind.CUT_AFTER_COMMIT, CONSUMERS, POSTGRES, 26),
    (Kind.CUT_AFTER_COMMIT, PROJECTORS, POSTGRES, 10),
    (Kind.CUT, CONSUMERS, KAFKA, 10),
    (Kind.CUT, PROJECTORS, KAFKA, 3),
    (Kind.CUT, PUBLISHERS, KAFKA, 12),
    (Kind.BLOCK, CONSUMERS, KAFKA, 10),
    (Kind.BLOCK, CONSUMERS, POSTGRES, 10),
    (Kind.BLOCK, PROJECTORS, KAFKA, 3),
    (Kind.BLOCK, PROJECTORS, POSTGRES, 3),
    (Kind.BLOCK, PUBLISHERS, KAFKA, 10),
    (Kind.DELAY, CONSUMERS, KAFKA, 4),
    (Kind.DELAY, CONSUMERS, POSTGRES, 4),
    (Kind.POISON, (EVERYBODY,), "", 18),
)

_LASTS_S: Final = {
    Kind.FREEZE: (SESSION_TIMEOUT_S + 1.0, SESSION_TIMEOUT_S + 5.0),
    Kind.KAFKA_KILL: (0.2, 3.0),
    Kind.POSTGRES_QUIT: (0.2, 3.0),
    Kind.BLOCK: (1.0, 9.0),
    Kind.DELAY: (2.0, 6.0),
    Kind.DISK_FULL: (3.0, 6.0),
}


def hits_consumer(fault: Fault) -> bool:
    """Whether a ledger consumer alone is its target."""
    return fault.target in CONSUMERS or fault.kind is Kind.ROLLING_RESTART


def minimums(minutes: float) -> Minimums:
    """For a run of ten minutes: 200 faults, 60 of them on consumers, 20 on Kafka or Postgres, 20 frozen processes."""
    share = minutes / 10
    return Minimums(int(200 * share), int(60 * share), int(20 * share), int(20 * share))


def plan(seed: int, minutes: float, *, disk_can_be_filled: bool) -> list[Phase]:
    """The schedule of a run; the same for the same arguments."""
    random = Random(seed)
    storm = [
        _fault(random, kind, random.choice(targets), link)
        for kind, targets, link, in_ten_minutes in _STORM
        for _ in range(max(1, math.ceil(in_ten_minutes * minutes / 10)))
        if disk_can_be_filled or kind is not Kind.DISK_FULL
    ]
    random.shuffle(storm)
    rounds = max(1, round(minutes / _MEASURED_EVERY_MINUTES))
    measured = [
        fault
        for _ in range(rounds)
        for fault in random.sample(
            [
                Fault(Kind.KILL, random.choice(CONSUMERS)),
                _fault(random, Kind.KAFKA_KILL, KAFKA, ""),
                _fault(random, Kind.POSTGRES_QUIT, POSTGRES, ""),
            ],
            3,
        )
    ]
    if disk_can_be_filled:
        measured.append(_fault(random, Kind.DISK_FULL, POSTGRES, ""))
    measured.insert(len(measured) // 2, Fault(Kind.ROLLING_RESTART, EVERYBODY))
    return _phases(random, storm, measured, minutes * 60 * STORM_SHARE)


def _phases(random: Random, storm: Sequence[Fault], measured: Sequence[Fault], storms_s: float) -> list[Phase]:
    """Storms of equal length, a measured fault after each."""
    storm_s = storms_s / len(measured)
    phases: list[Phase] = []
    for index, fault in enumerate(measured):
        faults = storm[index :: len(measured)]
        times = sorted(random.uniform(0, storm_s) for _ in faults)
        phases.append(Phase(tuple(Timed(at, each) for at, each in zip(times, faults, strict=True)), storm_s))
        phases.append(Phase(measured=fault))
    return phases


def _fault(random: Random, kind: Kind, target: str, link: str) -> Fault:
    shortest, longest = _LASTS_S.get(kind, (0.0, 0.0))
    return Fault(kind, target, round(random.uniform(shortest, longest), 2), link, random.random() < 0.5)
