"""Faults that a simulation injects into the record in memory happen where they would in Postgres."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import pytest

from ledger.event_store.protocol import (
    Appended,
    CommitOutcomeUnknownError,
    Fenced,
    ForeignLedgerError,
    Halt,
    StoreUnavailableError,
)
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from tests.contract.hand import Hand

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def record() -> InMemoryRecord:
    return InMemoryRecord.initialised(UUID(int=1), 4, lambda: NOW)


class Faults:
    """A step that raises once at a named place, and notes where it has been."""

    def __init__(self) -> None:
        self.at: dict[str, BaseException] = {}
        self.seen: list[str] = []

    async def __call__(self, what: str) -> None:
        self.seen.append(what)
        error = self.at.pop(what, None)
        if error is not None:
            raise error


async def test_a_fault_before_an_append_leaves_the_record_as_it_was(record: InMemoryRecord) -> None:
    faults = Faults()
    hand = Hand(InMemoryEventStore(record, faults))
    await hand.claim(0)
    hand.entry(0)
    faults.at["append"] = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await hand.write()
    assert (record.heads[0].sequence, record.events[0], record.command_keys, record.accounts) == (0, [], {}, {})
    assert isinstance(await hand.write(), Appended)


async def test_an_answer_lost_after_an_append_is_an_unknown_outcome_of_something_that_happened(
    record: InMemoryRecord,
) -> None:
    faults = Faults()
    hand = Hand(InMemoryEventStore(record, faults))
    await hand.claim(0)
    hand.entry(0)
    faults.at["append done"] = StoreUnavailableError("away")
    with pytest.raises(CommitOutcomeUnknownError):
        await hand.write()
    assert (record.heads[0].sequence, len(record.events[0])) == (1, 1)
    claim = await hand.store.claim(0, "hand", if_epoch=1)
    assert claim is not None
    assert (claim.epoch, claim.sequence) == (2, 1)


async def test_an_answer_lost_after_a_fence_is_no_unknown_outcome(record: InMemoryRecord) -> None:
    faults = Faults()
    hand = Hand(InMemoryEventStore(record, faults))
    await hand.claim(0)
    await InMemoryEventStore(record).claim(0, "newer")
    hand.entry(0)
    faults.at["append done"] = StoreUnavailableError("away")
    with pytest.raises(StoreUnavailableError):
        await hand.write()
    assert await hand.write() == Fenced(frozenset({0}))


async def test_a_holder_that_is_slow_before_its_append_is_fenced_by_a_claim_meanwhile(record: InMemoryRecord) -> None:
    newer = InMemoryEventStore(record)

    async def slow(what: str) -> None:
        if what == "append":
            await newer.claim(0, "newer")

    hand = Hand(InMemoryEventStore(record, slow))
    await hand.claim(0)
    hand.entry(0)
    assert await hand.write() == Fenced(frozenset({0}))
    assert record.events[0] == []


async def test_a_process_killed_at_a_step_has_done_what_came_before_it(record: InMemoryRecord) -> None:
    class Killed(BaseException):
        """What no code of the process catches."""

    faults = Faults()
    store = InMemoryEventStore(record, faults)
    for place, epoch in (("claim", 0), ("claim done", 1)):
        faults.at[place] = Killed()
        with pytest.raises(Killed):
            await store.claim(0, "a")
        assert record.heads[0].epoch == epoch


async def test_every_call_has_a_step_before_and_after_its_effect(record: InMemoryRecord) -> None:
    faults = Faults()
    store = InMemoryEventStore(record, faults)
    calls: dict[str, Callable[[], object]] = {
        "claim": lambda: store.claim(0, "a"),
        "append": lambda: store.append(Hand(store).build()),
        "look_up": lambda: store.look_up([], []),
        "load_accounts": lambda: store.load_accounts([]),
        "read_events": lambda: store.read_events(0, 0, 1),
        "read_events_at": lambda: store.read_events_at([]),
        "note_published": lambda: store.note_published(0, 1, 1),
        "note_alive": lambda: store.note_alive({0: 1}),
        "note_trying": lambda: store.note_trying(0, 1, "a:1"),
        "note_calm": lambda: store.note_calm({0: 1}),
        "note_halted": lambda: store.note_halted(0, 1, Halt("because")),
    }
    for name, call in calls.items():
        await call()  # type: ignore[misc]
        assert faults.seen[-2:] == [name, f"{name} done"]


async def test_the_clock_is_the_records(record: InMemoryRecord) -> None:
    hand = Hand(InMemoryEventStore(record))
    assert (await hand.claim(0)).clock == NOW
    hand.entry(0)
    assert await hand.write() == Appended(NOW)


async def test_a_backup_is_what_was_there_and_stays_so(record: InMemoryRecord) -> None:
    hand = Hand(InMemoryEventStore(record))
    await hand.claim(0)
    hand.entry(0)
    await hand.write()
    backup = record.backup()
    hand.entry(0)
    hand.unreadable(0, key=None, value=None)
    await hand.write()
    assert (backup.heads[0].sequence, len(backup.events[0]), len(backup.quarantine)) == (1, 1, 0)
    restored = Hand(InMemoryEventStore(backup))
    assert (await restored.claim(0)).sequence == 1
    assert record.heads[0].epoch == 1


async def test_a_database_that_is_swapped_under_a_process_is_refused_if_it_is_another_ledgers(
    record: InMemoryRecord,
) -> None:
    store = InMemoryEventStore(record)
    await store.identity()
    store.record = record.backup()
    await store.identity()
    store.record = InMemoryRecord.initialised(UUID(int=2), 4, lambda: NOW)
    with pytest.raises(ForeignLedgerError):
        await store.claim(0, "a")
    store.record = InMemoryRecord(None, lambda: NOW)
    with pytest.raises(ForeignLedgerError):
        await store.identity()
