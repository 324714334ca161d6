"""The rows of a made-up history are those of a ledger: an auditor that shares no code with them finds nothing."""

from datetime import UTC, datetime
from typing import Any

import pytest

from benchmarks.commands import owner_id
from benchmarks.history import PrintedProgress
from benchmarks.history_rows import HISTORY_APP, PartitionHistory
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.event_store.verification_checks import Violation
from ledger.event_store.verification_partition import Head, LogGeneration, PartitionAuditor
from ledger.messages.partitioning import partition_of

PARTITION, PARTITIONS, EVENTS = 3, 12, 500
ENDS_AT = datetime(2026, 1, 31, tzinfo=UTC)
OWNERS = [number for number in range(400) if partition_of(owner_id(number).encode(), PARTITIONS) == PARTITION]


def made() -> tuple[PartitionHistory, list[dict[str, Any]]]:
    history = PartitionHistory(PARTITION, OWNERS, EVENTS, ENDS_AT)
    rows = [row for chunk in history.chunks(64) for row in chunk.events]
    return history, [dict(zip(EVENT_COLUMNS, row, strict=True)) for row in rows]


def audit(history: PartitionHistory, rows: list[dict[str, Any]]) -> PartitionAuditor:
    logs = {HISTORY_APP: [LogGeneration(ends_at=EVENTS)]}
    head = Head(PARTITION, 1, history.sequence, history.hash, history.occurred_at, EVENTS, EVENTS, logs)
    auditor = PartitionAuditor(head, PARTITIONS)
    for row in rows:
        auditor.see(row)
    auditor.finish()
    return auditor


def test_an_auditor_finds_nothing() -> None:
    history, rows = made()
    auditor = audit(history, rows)
    assert len(rows) == EVENTS
    assert rows[-1]["occurred_at"] == ENDS_AT
    folded = {(key.owner_id, key.credit_type, one.balance, one.version) for key, one in auditor.accounts.items()}
    assert set(history.accounts()) == folded
    assert len(folded) == len(OWNERS)


def test_an_auditor_would_find_something() -> None:
    history, rows = made()
    rows[100]["nonce"] += "x"
    with pytest.raises(Violation):
        audit(history, rows)


def test_keys_are_those_of_the_events() -> None:
    for chunk in PartitionHistory(PARTITION, OWNERS, EVENTS, ENDS_AT).chunks(EVENTS):
        for values, command, nonce in zip(chunk.events, chunk.command_keys, chunk.nonce_keys, strict=True):
            row: dict[str, Any] = dict(zip(EVENT_COLUMNS, values, strict=True))
            place = (row["partition"], row["sequence"])
            assert command == (*command_key(row["app"], row["owner_id"], row["command_id"]), *place)
            assert nonce == (nonce_key(row["app"], row["owner_id"], row["nonce"]), *place)
            assert row["command_id"].version == 7
        assert len({command[0] for command in chunk.command_keys}) == EVENTS


def test_progress_is_told_once_in_a_while() -> None:
    said: list[str] = []
    progress = PrintedProgress(said.append, every_s=3600)
    for done in range(0, 101, 10):
        progress("record", done, 100)
    progress("vacuum", 1, 1)
    assert [line.split(" in ")[0] for line in said] == ["record: 100 of 100", "vacuum: 1 of 1"]
