"""Hands what happens in a simulated world to the auditor, at the instant it happens; asks for everything at the end."""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ledger.event_store.protocol import AppendBatch
from projections.feed import FeedKey
from projections.store import Advance
from tests.auditor.commands import BASE_OPERATIONS, EXAMPLE_APP_OPERATIONS, App
from tests.auditor.read_models import FeedAudit
from tests.auditor.record import RecordAudit
from tests.auditor.rows import Quarantined, Row
from tests.auditor.topics import InputAudit, PublishedAudit
from tests.auditor.violation import ViolationError, expect
from tests.simulation.fault_kinds import Fault

if TYPE_CHECKING:
    from tests.simulation.world import World

APPS = {"example-app": App(EXAMPLE_APP_OPERATIONS), "second-app": App(BASE_OPERATIONS)}


Check = TypeVar("Check", bound=Callable[..., None])


def _told(check: Check) -> Check:
    """What raises in the middle of the product might be caught there: the world is told first, and ends."""

    @wraps(check)
    def checked(self: "Audit", *args: Any) -> None:
        try:
            check(self, *args)
        except Exception as error:
            self._world.end(error)
            raise

    return cast(Check, checked)


class Audit:
    """Every step of one world."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._events = world.topics.events
        self._replays = world.topics.replays
        self.record = RecordAudit(APPS)
        self.input = InputAudit(world.partitions)
        self.published = PublishedAudit(self.record.rows)
        self.feeds: dict[FeedKey, FeedAudit] = {}
        self.refused: set[str] = set()
        """Read models whose rows were refused: they may halt."""
        self._highest: dict[int, int] = {}

    # ---- Kafka ----

    @_told
    def appended_to_topic(
        self, topic: str, partition: int, offset: int, key: bytes | None, value: bytes | None
    ) -> None:
        """Whatever arrives in a topic."""
        if topic == self._events:
            body = self.published.published(partition, key, value)
            if body["sequence"] <= self._highest.get(partition, 0):
                self._world.chance.happened(Fault.EVENT_AGAIN)
            else:
                self._highest[partition] = body["sequence"]
            self._world.clients.saw((body["app"], body["owner_id"], body["command_id"]))
        elif topic == self._replays:
            body = self.published.replayed(partition, key, value)
            self._world.clients.saw((body["app"], body["owner_id"], body["command_id"]))
        else:
            app = self._world.topics.app_of(topic)
            assert app is not None
            self.input.sent(app, partition, offset, key, value)

    # ---- the record ----

    @_told
    def claimed(self, partition: int, epoch: int, holder: str) -> None:
        """A claim is committed."""
        self._world.say(f"{holder} claims {partition}: epoch {epoch}")
        self.record.claimed(partition, epoch, holder)

    @_told
    def committed(self, batch: AppendBatch, holder: str) -> None:
        """A transaction of a ledger consumer is committed: what it left behind is looked at."""
        for head in batch.heads:
            self.record.appends(head.partition, head.epoch, holder)
            stored = self._world.record.events[head.partition]
            for values in stored[len(self.record.rows[head.partition]) :]:
                row = Row._make(values)
                self.record.committed(row, self.input.decided(row))
        for record in batch.quarantine:
            self.input.quarantined(
                Quarantined(record.app, record.partition, record.command_offset, record.key, record.value)
            )
        heads = ", ".join(f"{head.partition}:{head.sequence_before}-{head.sequence}" for head in batch.heads)
        self._world.say(f"{holder} commits {heads}, {len(batch.quarantine)} to quarantine")

    @_told
    def halted(self, partition: int, epoch: int, because: str) -> None:
        """A partition may halt where there is a cause, and only with the message that tells it."""
        if self._world.record.heads[partition].epoch != epoch:
            return  # what a stale holder thinks it sees is of no effect
        self._world.say(f"{partition} halts: {because}")
        if not any(text in because for text in self._world.causes_to_halt(partition)):
            raise ViolationError(f"partition {partition} halts without a cause: {because}")

    # ---- read models ----

    @_told
    def feed_created(self, key: FeedKey) -> None:
        """A version of a read model was made from the record."""
        checkpoint = self._world.projections.checkpoints[key]
        audit = self.feeds[key] = FeedAudit(str(key))
        hashes = [event.hash for event in checkpoint.taken]
        audit.advanced(hashes, checkpoint.sequence, checkpoint.hash, self.record.rows[key.partition])

    @_told
    def feed_claimed(self, key: FeedKey, epoch: int, holder: str) -> None:
        """A claim is committed."""
        self._world.say(f"{holder} claims {key.read_model}/{key.version} of {key.partition}: epoch {epoch}")
        self.feeds[key].claimed(epoch, holder)

    @_told
    def feed_advanced(self, one: Advance, holder: str) -> None:
        """A transaction of a projection worker is committed."""
        audit = self.feeds[one.key]
        audit.appends(one.epoch, holder)
        rows = self.record.rows[one.key.partition]
        audit.advanced([event.hash for event in one.events], one.sequence, one.hash, rows)

    @_told
    def feed_halted(self, key: FeedKey, because: str) -> None:
        """A feed may halt only where its tables refuse an event."""
        self._world.say(f"{key} halts: {because}")
        if key.read_model not in self.refused:
            raise ViolationError(f"{key} halts without a cause: {because}")

    # ---- the end ----

    def everything(self) -> None:
        """All that can be asked when everything has come to rest."""
        record = self._world.record
        self.record.unchanged(Row._make(values) for rows in record.events.values() for values in rows)
        missing = self.input.undecided(self.record.by_command)
        expect(not missing, 3, "; ".join(missing[:5]))
        self.published.all_published()
        accounts = {tuple(key): (account.balance, account.version) for key, account in record.accounts.items()}
        right = {key: state for key, state in self.record.balances.items() if state[1]}
        expect(accounts == right, 6, f"the accounts are {accounts} instead of {right}")
        for key, checkpoint in self._world.projections.checkpoints.items():
            rows = self.record.rows[key.partition]
            taken = [event.hash for event in checkpoint.taken]
            FeedAudit(str(key)).advanced(taken, checkpoint.sequence, checkpoint.hash, rows)
            active = self._world.projections.versions[key.read_model] == key.version
            whole = checkpoint.sequence == len(rows)
            expect(whole or not active, 9, f"{key} is at {checkpoint.sequence} of {len(rows)}")
