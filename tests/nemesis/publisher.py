"""An app's process under a fault run: `python -m tests.nemesis.publisher FILE`, killed and started again at will.

It keeps its history; a new run first asks again, with the same bytes, about what the last one left open.
"""

import asyncio
import contextlib
import json
import signal
import sys
import uuid
from collections import deque
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Final, Self

import uvloop

from ledger.messages.command_ids import new_command_id
from ledger.messages.partitioning import partition_of
from producers import CommandRejected, KafkaUnavailable, LedgerClient, NotPublished, OutcomeUnknown
from producers.errors import ClientClosed
from tests.nemesis.history import Answer, Answered, Call, Failed, HistoryWriter, Placed, Told, read_history
from tests.nemesis.operations import NEW_OPERATION, SHOP

TICK_S: Final = 0.05
UNDER_WAY_MAX: Final = 400
"""Calls that one process has open at a time; when so many wait, it makes no new ones."""

WAIT_S: Final = 8.0
RETRIES_MAX: Final = 4
"""How often one run asks again about a command whose outcome it was not told."""

FINISH_LIMIT_S: Final = 25.0
"""How long a process that is told to stop waits for what is under way."""

RECENT_MAX: Final = 200
LEFT_OPEN_BYTES: Final = 512 * 1024
HOT_OWNERS: Final = 6
HOT_SHARE: Final = 0.5
REPEATS_SHARE: Final = 0.04
SAME_NONCE_SHARE: Final = 0.03
NOT_SENT: Final = frozenset({"NotPublished", "ClientClosed", "KafkaUnavailable"})
"""What a client is told when nothing was sent, and nothing will come of the call."""


@dataclass(frozen=True, slots=True)
class PublisherSettings:
    """Of one process; kept in a file, because a supervisor starts it again and again."""

    name: str
    app: str
    waits: bool
    rate: float
    """Commands per second."""
    kafka: str
    partitions: int
    history: str
    new_operation: str
    """A file: once it is there the app's new operation is used."""
    seed: int
    cold_owners: int = 4_000

    def save(self, path: Path) -> None:
        """Write them down."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them."""
        return cls(**json.loads(path.read_text()))


class Publisher:
    """Makes commands at a steady rate, and keeps book."""

    def __init__(self, settings: PublisherSettings, client: LedgerClient, history: HistoryWriter, run: int) -> None:
        self._settings = settings
        self._client = client
        self._history = history
        self._random = Random(f"{settings.seed}:{settings.name}:{run}")
        self._under_way: set[asyncio.Task[None]] = set()
        self._recent: deque[tuple[str, dict[str, Any]]] = deque(maxlen=RECENT_MAX)
        self._new_operation = Path(settings.new_operation)
        self._stopping = False
        self._failure: BaseException | None = None
        """What no call should raise: it ends the process."""

    def stop(self) -> None:
        """Make no new calls."""
        self._stopping = True

    async def run(self, left_open: list[Told]) -> None:
        """Until it is told to stop. Raises what no call should raise."""
        for told in left_open:
            self._start(self._made(told.call.command_id, told.call.body, retries=RETRIES_MAX))
        loop = asyncio.get_running_loop()
        owed, last = 0.0, loop.time()
        while not self._stopping:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            # A process that was frozen, or whose Kafka was away, does not catch up: one second's worth at most.
            owed = min(owed + (now - last) * self._settings.rate, self._settings.rate)
            last = now
            while owed >= 1 and len(self._under_way) < UNDER_WAY_MAX:
                owed -= 1
                self._start(self._made(*self._next(), retries=self._random.randrange(RETRIES_MAX)))
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=FINISH_LIMIT_S)
        if self._failure is not None:
            raise self._failure

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._stopping = True

    async def _made(self, command_id: str, body: dict[str, Any], retries: int) -> None:
        """One command, with so many retries of the same bytes while it is not known what became of it."""
        for _ in range(retries + 1):
            # No await between the note and the call, so that calls are noted in the order in which they are made.
            partition = partition_of(body["owner_id"].encode(), self._settings.partitions)
            call = self._history.call(self._settings.app, partition, command_id, self._settings.waits, body)
            answer = await self._answer(call)
            self._history.answer(call, answer)
            if self._stopping or not isinstance(answer, Failed):
                return

    async def _answer(self, call: Call) -> Answer:
        body = call.body
        request: dict[str, Any] = {
            name: datetime.fromisoformat(value) if name in ("issued_at", "not_after") else value
            for name, value in body.items()
        }
        request["command_id"] = uuid.UUID(call.command_id)
        try:
            if not call.waits:
                return Placed((await self._client.publish(**request)).offset)
            outcome = await self._client.submit(**request, wait_s=WAIT_S)
        except CommandRejected as error:
            event = error.event
            return Answered(str(event.position), event.hash, event.reason, event.balance_after, error.replayed)
        except OutcomeUnknown as error:
            place = error.published
            return Failed(type(error).__name__, None if place is None else place.offset)
        except (NotPublished, ClientClosed, KafkaUnavailable) as error:
            return Failed(type(error).__name__, None)
        event = outcome.event
        return Answered(str(event.position), event.hash, None, event.balance_after, outcome.replayed)

    def _next(self) -> tuple[str, dict[str, Any]]:
        random = self._random
        if self._recent and random.random() < REPEATS_SHARE:
            return random.choice(self._recent)
        hot = random.random() < HOT_SHARE
        owner = f"hot-{random.randrange(HOT_OWNERS)}" if hot else f"cold-{random.randrange(self._settings.cold_owners)}"
        operation, amount = self._operation()
        body: dict[str, Any] = {
            "operation": operation,
            "owner_id": owner,
            "nonce": uuid.UUID(int=random.getrandbits(128)).hex,
            "issued_at": datetime.now(UTC).isoformat(),
        }
        if self._recent and random.random() < SAME_NONCE_SHARE:
            other = random.choice(self._recent)[1]
            body |= {"owner_id": other["owner_id"], "nonce": other["nonce"]}
        if amount is not None:
            body["amount"] = amount
        if random.random() < 0.02:
            body["not_after"] = (datetime.now(UTC) + timedelta(seconds=random.uniform(0.0, 3.0))).isoformat()
        made = (str(new_command_id()), body)
        self._recent.append(made)
        return made

    def _operation(self) -> tuple[str, int | None]:
        random = self._random
        if self._settings.app == SHOP and random.random() < 0.1 and self._new_operation.exists():
            return NEW_OPERATION, None
        own = "PURCHASE" if self._settings.app == SHOP else random.choice(("CONTENT_CREATION", "CONTENT_ACCESS"))
        choices: tuple[tuple[str, int | None, int], ...] = (
            ("CREDIT_ADD", random.randint(1, 12), 30),
            ("CREDIT_SPEND", -random.randint(1, 15), 40),
            (own, None, 20),
            ("DAILY_REWARD", None, 6),
            ("CREDIT_SPEND", 5, 2),
            ("FLY", None, 2),
        )
        return random.choices([choice[:2] for choice in choices], [choice[2] for choice in choices])[0]


def left_open(calls: list[Told]) -> list[Told]:
    """The calls whose clients never learned what became of the command: killed in between, or told so."""
    last = {told.call.command_id: told for told in calls}
    return [told for told in last.values() if told.answer is None or isinstance(told.answer, Failed)]


async def _main(settings: PublisherSettings) -> None:
    path = Path(settings.history)
    earlier = read_history(path, last_bytes=LEFT_OPEN_BYTES).calls if path.exists() else []
    run = 1 + max((told.call.run for told in earlier), default=0)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _until_standard_input_ends(stop)
    while not stop.is_set():
        try:
            with HistoryWriter(path, settings.name, run) as history:
                async with LedgerClient(settings.app, settings.kafka) as client:
                    publisher = Publisher(settings, client, history, run)
                    running = asyncio.create_task(publisher.run(left_open(earlier)[-UNDER_WAY_MAX:]))
                    await asyncio.wait({running, asyncio.ensure_future(stop.wait())}, return_when="FIRST_COMPLETED")
                    publisher.stop()
                    await running
            return
        except KafkaUnavailable:
            await asyncio.sleep(TICK_S)  # it could not even begin


async def _until_standard_input_ends(stop: asyncio.Event) -> None:
    class _Parent(asyncio.Protocol):
        def connection_lost(self, error: Exception | None) -> None:
            stop.set()

    with contextlib.suppress(ValueError):  # not a pipe: started by hand
        await asyncio.get_running_loop().connect_read_pipe(_Parent, sys.stdin)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_main(PublisherSettings.load(Path(sys.argv[1]))))
