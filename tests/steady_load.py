"""Apps that go on whatever happens: they publish, wait, retry under the same command id, and remember what was
acknowledged; and what must hold of all that in the end."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.messages.command_ids import new_command_id
from producers import LedgerClient, LedgerError
from service.verification.everything import Everything, verify_everything
from tests.ledger_on_servers import WAIT_S, LedgerOnServers

ATTEMPT_S = 5.0
PAUSE_S = 0.02
"""Between two commands of one owner: some hundred commands a second from twenty owners."""

GOES_ON_WITHIN_S = 60.0
"""Generous: the machine of a test may be busy. What it took is printed."""


@dataclass
class SteadyLoad:
    """One task for each owner. Odd owners wait for outcomes, even ones for Kafka's acknowledgement only."""

    ledger: LedgerOnServers
    owners: Sequence[str]
    acknowledged: dict[UUID, str] = field(default_factory=dict)
    """Owner by command id, of commands that Kafka has acknowledged."""
    answered: dict[UUID, tuple[str, int]] = field(default_factory=dict)
    """Position and balance by command id, of commands whose outcome came."""
    acknowledged_at: list[float] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    _enough: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, client: LedgerClient) -> None:
        """Until `enough` is said; the command in hand is brought to its end."""
        await asyncio.gather(*(self._owner(client, number, owner) for number, owner in enumerate(self.owners)))

    def enough(self) -> None:
        self._enough.set()

    async def _owner(self, client: LedgerClient, number: int, owner: str) -> None:
        for count in itertools.count():
            if self._enough.is_set():
                return
            await self._command(client, owner, f"{owner} {count}", waits=number % 2 == 1)
            await asyncio.sleep(PAUSE_S)

    async def _command(self, client: LedgerClient, owner: str, nonce: str, *, waits: bool) -> None:
        command_id = new_command_id()
        deadline = time.monotonic() + 2 * GOES_ON_WITHIN_S
        while True:
            try:
                if waits:
                    outcome = await client.submit("CREDIT_ADD", owner, nonce, 1, command_id=command_id)
                    self.answered[command_id] = (str(outcome.event.position), outcome.balance)
                    self.answered_at.append(time.monotonic())
                else:
                    await client.publish("CREDIT_ADD", owner, nonce, 1, command_id=command_id)
                    self.acknowledged_at.append(time.monotonic())
                self.acknowledged[command_id] = owner
                return
            except LedgerError as error:
                self.troubles.append(f"{type(error).__name__}: {error}")
                if time.monotonic() > deadline:
                    raise

    async def until_more(self, outcomes: int = 20) -> None:
        """Wait until so many more outcomes have come: the whole way works."""
        target = len(self.answered_at) + outcomes
        deadline = time.monotonic() + GOES_ON_WITHIN_S
        while len(self.answered_at) < target:
            assert time.monotonic() < deadline, f"no outcomes within {GOES_ON_WITHIN_S} s: {self.troubles[-3:]}"
            await asyncio.sleep(0.05)

    async def until_every_owner_goes_on(self, since: float) -> float:
        """Wait until each owner has had something acknowledged since then; seconds from `since` to the last of them."""
        before = dict.fromkeys(self.owners, 0)
        for owner in self.acknowledged.values():
            before[owner] += 1
        deadline = time.monotonic() + GOES_ON_WITHIN_S
        while True:
            now = dict.fromkeys(self.owners, 0)
            for owner in self.acknowledged.values():
                now[owner] += 1
            behind = [owner for owner in self.owners if now[owner] < before[owner] + 2]
            if not behind:
                return time.monotonic() - since
            assert time.monotonic() < deadline, f"{behind} do not go on: {self.troubles[-3:]}"
            await asyncio.sleep(0.05)

    def longest_silence_s(self, since: float) -> tuple[float, float]:
        """The longest times without an acknowledgement, and without an outcome, from then on."""
        return _longest_gap(self.acknowledged_at, since), _longest_gap(self.answered_at, since)


@asynccontextmanager
async def steady_load(ledger: LedgerOnServers, owners: Sequence[str]) -> AsyncIterator[SteadyLoad]:
    """Commands without end until the block is left."""
    client = LedgerClient(
        "example-app",
        ledger.bootstrap,
        topic_prefix=ledger.topics.prefix,
        publish_wait_s=ATTEMPT_S,
        outcome_wait_s=ATTEMPT_S,
    )
    async with client:
        load = SteadyLoad(ledger, owners)
        running = asyncio.create_task(load.run(client))
        try:
            yield load
            load.enough()
            await asyncio.wait_for(running, 3 * GOES_ON_WITHIN_S)
        finally:
            running.cancel()
            await asyncio.wait([running])


async def assert_nothing_lost_or_doubled(ledger: LedgerOnServers, load: SteadyLoad) -> Everything:
    """Every acknowledged command has exactly one event, answers are as they were given, everything is published in
    order, and `ledger verify` finds nothing."""
    await ledger.until("SELECT count(*) FROM ledger.command_key", len(load.acknowledged))
    await ledger.until_published()
    events = await ledger.events()
    by_command = {event.command_id: event for event in events}
    assert len(events) == len(by_command)
    assert by_command.keys() == load.acknowledged.keys()
    assert all(event.accepted for event in events)
    for command_id, answer in load.answered.items():
        event = by_command[command_id]
        assert (str(event.position), event.balance_after) == answer
    reader = KafkaRecordReader(ledger.bootstrap)
    await reader.start()
    connection = await asyncpg.connect(ledger.database_url)
    try:
        async with asyncio.timeout(2 * WAIT_S):
            return await verify_everything(connection, reader, ledger.topics, lambda what, done, total: None)
    finally:
        await connection.close()
        await reader.stop()


def _longest_gap(times: Sequence[float], since: float) -> float:
    later = [since, *(one for one in times if one > since)]
    return max((after - before for before, after in itertools.pairwise(later)), default=0.0)
