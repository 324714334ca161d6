"""A record moved from any N to any M keeps every owner's history, balances, command ids and nonces."""

import asyncio
import contextlib
import random
from collections import defaultdict
from datetime import timedelta
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.domain.account import Account
from ledger.domain.command import Command
from ledger.domain.position import Position
from ledger.domain.rejection import Reason
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import (
    AccountKey,
    AppendBatch,
    AppendResult,
    CommitOutcomeUnknownError,
    StoreUnavailableError,
)
from ledger.event_store.verification_partition import Head, LogGeneration, PartitionAuditor
from ledger.messages.partitioning import partition_of
from ledger.testing.event_store import InMemoryEventStore, InMemoryRecord
from service.archiving.lines import ArchivedEvent
from service.moving import importing
from service.moving.export_files import QuarantinedLine
from service.moving.exported_chain import checked
from service.moving.importing import ImportedRecord, RecordImporter
from tests.exports import APPS, BEGAN, OldRecord, new_record, old_record, rows_of, waiting_line

KEPT = [
    "app",
    "command_id",
    "operation",
    "owner_id",
    "credit_type",
    "account_version",
    "amount",
    "balance_after",
    "nonce",
    "issued_at",
    "occurred_at",
    "reason",
]

OWNERS = ("ada", "bo", "cleo", "dora", "é", "tenant/7")
owners = st.sampled_from(OWNERS)


def history_of(seed: int, length: int) -> list[Command]:
    """Commands of few owners, apps and nonces, so that all that can happen between them happens: resent ones, used
    nonces, empty accounts. Drawn by a seed, because hypothesis rarely draws lists as long as that takes."""
    chance = random.Random(seed)
    return [
        Command(
            app=chance.choice(APPS),
            command_id=UUID(int=chance.randrange(30)),
            operation=chance.choice(["MOVE", "MOVE", "MOVE", "VISIT", "NOPE"]),
            owner_id=chance.choice(OWNERS),
            nonce=chance.choice("mnop"),
            issued_at=BEGAN - timedelta(seconds=chance.randrange(99)),
            amount=chance.randint(-5, 9),
            credit_type=chance.choice(["credits", "credits", "points"]),
            metadata=chance.choice([None, None, "{}", '{"a":\n 1}', '{"ü": "\\ud800"}']),
        )
        for _ in range(length)
    ]


histories = st.builds(history_of, st.integers(0, 2**32), st.integers(0, 80))
steps = st.lists(st.integers(0, 2), min_size=1, max_size=5)
counts = st.integers(1, 9)
quarantines = st.lists(
    st.builds(
        waiting_line,
        st.sampled_from(APPS),
        st.integers(0, 8),
        st.integers(0, 9),
        st.none() | owners.map(str.encode) | st.just(b"\xff"),
        st.sampled_from(["waiting", "waiting", "retried"]),
    ),
    max_size=5,
)


async def moved(
    old: OldRecord, store: InMemoryEventStore, quarantine: list[QuarantinedLine] | None = None
) -> ImportedRecord:
    manifest = old.manifest
    importer = RecordImporter(store, manifest, "import", lambda done, total: None)
    return await importer.run(checked(old.exported, manifest), quarantine or [])


@given(histories, steps, counts, counts, quarantines)
@settings(max_examples=150)
def test_a_move_keeps_everything_that_owners_and_apps_know(
    history: list[Command], step: list[int], before: int, after: int, quarantine: list[QuarantinedLine]
) -> None:
    old, record = old_record(before, history, step), new_record(after)
    imported = asyncio.run(moved(old, InMemoryEventStore(record), quarantine))
    same_histories(old, record)
    same_keys_and_accounts(old, record)
    waiting = [line for line in quarantine if line.status == "waiting"]
    assert imported.quarantined == len(record.quarantine) == len(waiting)
    assert sorted((row.app, row.key or b"", row.value) for row in record.quarantine.values()) == sorted(
        (line.app, line.key or b"", line.value) for line in waiting
    )
    assert all(
        partition == partition_of(row.key, after) for (_, partition, _), row in record.quarantine.items() if row.key
    )
    verifies(record)


@given(histories, counts, st.integers(1, 4), st.data())
@settings(max_examples=60)
def test_a_move_that_is_cut_short_anywhere_goes_on_to_the_same_end(
    history: list[Command], after: int, batch_events: int, data: st.DataObject
) -> None:
    old, whole, record = old_record(3, history), new_record(after), new_record(after)
    quarantine = [waiting_line("shop", 1, number, b"ada") for number in range(3)]
    with_small_batches = _Sizes(batch_events)
    with with_small_batches:
        asyncio.run(moved(old, InMemoryEventStore(whole), quarantine))
        for _ in range(3):
            dies_at = data.draw(st.integers(0, 12))
            with contextlib.suppress(StoreUnavailableError, CommitOutcomeUnknownError):
                asyncio.run(moved(old, _Dying(record, dies_at), quarantine))
        asyncio.run(moved(old, InMemoryEventStore(record), quarantine))
    assert record.events == whole.events
    assert (record.command_keys, record.nonce_keys) == (whole.command_keys, whole.nonce_keys)
    assert (record.accounts, record.offsets) == (whole.accounts, whole.offsets)
    assert record.quarantine == whole.quarantine
    assert [head.consumed for head in record.heads.values()] == [head.consumed for head in whole.heads.values()]


def same_histories(old: OldRecord, record: InMemoryRecord) -> None:
    """Each owner's events, in the same order, with the same content; and nothing else."""
    ours: dict[str, list[ArchivedEvent]] = defaultdict(list)
    theirs: dict[str, list[dict[str, object]]] = defaultdict(list)
    for events in old.by_partition.values():
        for event in events:
            ours[event.owner_id].append(event)
    for partition in record.heads:
        for row in rows_of(record, partition):
            assert partition == partition_of(str(row["owner_id"]).encode(), len(record.heads))
            theirs[str(row["owner_id"])].append(row)
    assert {
        owner: [tuple(getattr(one, name) for name in KEPT) for one in events] for owner, events in ours.items()
    } == {owner: [tuple(row[name] for name in KEPT) for row in rows] for owner, rows in theirs.items()}
    assert {owner: [one.metadata for one in events] for owner, events in ours.items()} == {
        owner: [row["metadata"] for row in rows] for owner, rows in theirs.items()
    }


def same_keys_and_accounts(old: OldRecord, record: InMemoryRecord) -> None:
    """A retry is answered by the event that it was answered by, a used nonce is refused, and balances are the same."""
    accounts = {AccountKey(*key): account for key, account in old.accounts.items() if account.version}
    assert record.accounts == accounts
    assert all(isinstance(account, Account) for account in accounts.values())
    rows = {Position(place, row["sequence"]): row for place in record.heads for row in rows_of(record, place)}  # type: ignore[arg-type]
    expected_nonces = set()
    for event in old.exported:
        row = rows[record.command_keys[command_key(event.app, event.owner_id, event.command_id)]]
        assert (row["command_id"], row["owner_id"], row["app"]) == (event.command_id, event.owner_id, event.app)
        key = nonce_key(event.app, event.owner_id, event.nonce)
        if event.reason is None:
            expected_nonces.add(key)
            assert rows[record.nonce_keys[key]]["command_id"] == event.command_id
        if event.reason == Reason.DUPLICATE_NONCE:
            first = rows[Position.parse(str(row["detail"]))]
            assert (first["nonce"], first["owner_id"], first["reason"]) == (event.nonce, event.owner_id, None)
        else:
            assert row["detail"] == event.detail
    assert len(record.command_keys) == len(rows) == len(old.exported)
    assert set(record.nonce_keys) == expected_nonces


def verifies(record: InMemoryRecord) -> None:
    """As `ledger verify` sees each partition, after the last step has ended the imported generation."""
    for partition, head in record.heads.items():
        logs = {}
        for (app, place), mark in record.offsets.items():
            if place == partition:
                quarantined = {offset for a, p, offset in record.quarantine if (a, p) == (app, place)}
                imported = LogGeneration(1, mark.next_offset, quarantined)
                logs[app] = [imported, LogGeneration(head.sequence + 1)]
        audited = Head(
            partition,
            head.epoch,
            head.sequence,
            head.hash,
            head.occurred_at,
            head.published_sequence,
            head.consumed,
            logs,
        )
        auditor = PartitionAuditor(audited, len(record.heads))
        for row in rows_of(record, partition):
            auditor.see(row)
        auditor.finish()


class _Sizes:
    """Batches of a few events, for the time of the block."""

    def __init__(self, events: int) -> None:
        self._events = events

    def __enter__(self) -> None:
        self._before = (importing.BATCH_EVENTS_MAX, importing.BATCH_QUARANTINED_MAX)
        importing.BATCH_EVENTS_MAX, importing.BATCH_QUARANTINED_MAX = self._events, 1  # type: ignore[misc]

    def __exit__(self, *_: object) -> None:
        importing.BATCH_EVENTS_MAX, importing.BATCH_QUARANTINED_MAX = self._before  # type: ignore[misc]


class _Dying(InMemoryEventStore):
    """Postgres goes away before or after one of the appends."""

    def __init__(self, record: InMemoryRecord, dies_at: int) -> None:
        super().__init__(record)
        self._left = dies_at

    async def append(self, batch: AppendBatch) -> AppendResult:
        if self._left == 0:
            raise StoreUnavailableError("gone")
        self._left -= 1
        result = await super().append(batch)
        if self._left == 0:
            raise CommitOutcomeUnknownError("gone")
        return result
