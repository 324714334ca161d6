"""What happens to everybody at once or to one of them at any moment. All is drawn before the run begins."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from tests.simulation.fault_kinds import Fault
from tests.simulation.processes import Process, Role

if TYPE_CHECKING:
    from tests.simulation.world import World

PROCESSES_MAX: Final = 3
"""Of one role."""

COUNTED_WHEN_DONE: Final = (Fault.ZOMBIE, Fault.FREEZE, Fault.ZOMBIE_IN_CLAIM, Fault.REBUILD, Fault.EVENTS_LOST)
"""By those who do it."""


@dataclass(frozen=True, slots=True)
class Action:
    """One decision. `victim`, `size` and `detail` lie between 0 and 1, and are used as the kind needs them."""

    number: str
    at_s: float
    fault: Fault
    victim: float
    size: float
    detail: float


class Nemesis:
    """The enemy of one seed."""

    def __init__(self, world: "World", random: Random) -> None:
        self._world = world
        self._random = random
        self._do: dict[Fault, tuple[int, Callable[[Action], bool]]] = {
            # with its weight; whether it was done
            Fault.CRASH: (14, self._crash),
            Fault.FREEZE: (8, self._freeze),
            Fault.ZOMBIE: (8, self._freeze),
            Fault.ZOMBIE_IN_CLAIM: (6, self._freeze_in_claim),
            Fault.STOP: (5, self._stop),
            Fault.JOIN: (9, self._join),
            Fault.SESSION_LOST: (8, self._lose_session),
            Fault.SHUFFLE: (6, self._shuffle),
            Fault.KAFKA_AWAY: (4, self._kafka_away),
            Fault.KAFKA_SLOW: (2, self._kafka_slow),
            Fault.POSTGRES_AWAY: (4, self._postgres_away),
            Fault.POSTGRES_STOPS_IN_BATCH: (4, self._postgres_stops_in_batch),
            Fault.POSTGRES_SLOW: (2, self._postgres_slow),
            Fault.CLOCK_OF_PROCESS: (3, self._process_clock),
            Fault.CLOCK_OF_POSTGRES: (3, self._postgres_clock),
            Fault.RETENTION_CONSUMED: (5, self._retention_consumed),
            Fault.RETENTION_UNCONSUMED: (1, self._retention_unconsumed),
            Fault.RETENTION_EVENTS: (5, self._retention_events),
            Fault.EVENTS_LOST: (3, self._lose_events),
            Fault.REBUILD: (6, self._rebuild),
        }

    def begin(self, until_s: float) -> None:
        """Draw everything and start the clocks."""
        if not self._world.actions_mean_gap_s:
            return
        kinds = list(self._do)
        weights = [self._do[kind][0] for kind in kinds]
        at_s, number = 0.0, 0
        loop = asyncio.get_running_loop()
        while (at_s := at_s + self._random.expovariate(1 / self._world.actions_mean_gap_s)) < until_s:
            (fault,) = self._random.choices(kinds, weights)
            sizes = [self._random.random() for _ in range(3)]
            loop.call_at(at_s, self._act, Action(f"n{number}", at_s, fault, *sizes))
            number += 1

    def _act(self, action: Action) -> None:
        if self._world.settling or not self._world.chance.keeps(action.number):
            return
        self._world.say(f"[{action.number}] {action.fault.value}")
        if self._do[action.fault][1](action) and action.fault not in COUNTED_WHEN_DONE:
            self._world.chance.happened(action.fault)

    # ---- processes and groups ----

    def _victim(self, action: Action) -> Process | None:
        alive = [process for process in self._world.processes if process.alive]
        return alive[int(action.victim * len(alive))] if alive else None

    def _crash(self, action: Action) -> bool:
        victim = self._victim(action)
        if victim is not None:
            self._world.crash(victim)
        return victim is not None

    def _freeze(self, action: Action) -> bool:
        victim = self._victim(action)
        if victim is None:
            return False
        seconds = 0.1 + 5.8 * action.size if action.fault is Fault.FREEZE else 6.1 + 10 * action.size
        return self._world.freeze(victim, seconds, Fault.FREEZE, Fault.ZOMBIE)

    def _freeze_in_claim(self, action: Action) -> bool:
        self._world.freeze_in_claim["consumer" if action.victim < 0.5 else "worker"] = 6.1 + 6 * action.size
        return True

    def _stop(self, action: Action) -> bool:
        victim = self._victim(action)
        return victim is not None and self._world.stop(victim)

    def _join(self, action: Action) -> bool:
        role: Role = "consumer" if action.victim < 0.6 else "worker"
        if sum(process.role == role for process in self._world.processes) >= PROCESSES_MAX:
            return False
        self._world.start(role)
        return True

    def _lose_session(self, action: Action) -> bool:
        victim = self._victim(action)
        return victim is not None and self._world.lose_session(victim, notice_after_s=4 * action.size)

    def _shuffle(self, action: Action) -> bool:
        topics = self._world.topics
        self._world.broker.rebalance(topics.consumer_group if action.victim < 0.6 else topics.projection_group())
        return True

    # ---- servers ----

    def _kafka_away(self, action: Action) -> bool:
        self._world.broker.available = False

        def back() -> None:
            self._world.broker.available = True

        asyncio.get_running_loop().call_later(0.2 + 8 * action.size**2, back)
        return True

    def _kafka_slow(self, action: Action) -> bool:
        self._world.broker_slow_until_s = asyncio.get_running_loop().time() + 5 * action.size
        return True

    def _postgres_away(self, action: Action) -> bool:
        self._world.postgres_stops(0.2 + 8 * action.size**2)
        return True

    def _postgres_stops_in_batch(self, action: Action) -> bool:
        self._world.stop_postgres_in_batch = (action.victim < 0.5, 0.2 + 4 * action.size)
        return True

    def _postgres_slow(self, action: Action) -> bool:
        self._world.store_slow_until_s = asyncio.get_running_loop().time() + 5 * action.size
        return True

    def _process_clock(self, action: Action) -> bool:
        victim = self._victim(action)
        if victim is not None:
            victim.clock_ahead_s += 10_000 * (action.size - 0.5)
        return victim is not None

    def _postgres_clock(self, action: Action) -> bool:
        self._world.postgres_clock_ahead_s += (20 if action.detail < 0.7 else 10_000) * (action.size - 0.5)
        return True

    # ---- retention, rebuilds ----

    def _retention_consumed(self, action: Action) -> bool:
        """Of what is consumed, with luck including the last record, never more."""
        places = sorted(self._world.record.offsets)
        if not places:
            return False
        app, partition = places[int(action.victim * len(places))]
        mark = self._world.record.offsets[app, partition]
        upto = mark.next_offset if action.detail < 0.5 else int(action.size * mark.next_offset)
        self._world.broker.remove_before(self._world.topics.commands(app), partition, upto)
        self._world.say(f"  {app}:{partition} below {upto}")
        return True

    def _retention_unconsumed(self, action: Action) -> bool:
        return self._world.retention_goes_too_far(action.victim, action.size)

    def _retention_events(self, action: Action) -> bool:
        partition = int(action.victim * self._world.partitions)
        records = self._world.broker.records(self._world.topics.events, partition)
        if not records:
            return False
        upto = records[0].offset + round(action.size * len(records))
        self._world.broker.remove_before(self._world.topics.events, partition, upto)
        self._world.say(f"  {partition} below {upto}")
        return True

    def _lose_events(self, action: Action) -> bool:
        self._world.events_to_lose = 1 + int(3 * action.size)
        return True

    def _rebuild(self, action: Action) -> bool:
        names = self._world.read_models
        name = names[int(action.victim * len(names))]
        dies, restored = action.detail < 0.2, action.detail > 0.7
        self._world.begin_rebuild(name, 4 * action.size, dies=dies, restored=restored)
        return True
