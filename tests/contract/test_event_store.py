"""What every event store must do: the one in Postgres, and its twin in memory that simulations run on."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from ledger.domain.account import Account
from ledger.domain.chain import GENESIS
from ledger.domain.position import Position
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import (
    AccountKey,
    Alive,
    Appended,
    ConsumedMark,
    Fenced,
    Halt,
    Head,
    KeyTaken,
    OffsetAdvance,
    RecordMismatchError,
)
from tests.contract.hand import APP, ISSUED_AT, Hand
from tests.contract.records import Record
from tests.servers import TEST_PARTITIONS


async def holding(record: Record, *partitions: int) -> Hand:
    """A hand that has just claimed these partitions, on a connection of its own."""
    hand = Hand(record.client())
    await hand.claim(*partitions)
    return hand


# --- identity -------------------------------------------------------------------------------------------------------


async def test_heads_are_read_whoever_holds_them(record: Record) -> None:
    hand = await holding(record, 0, 1)
    hand.entry(0), hand.entry(0)
    await hand.write()
    heads = await record.client().read_heads([0, 1, 5])
    assert heads == {
        0: Head(1, 2, hand.places[0].hash),
        1: Head(1, 0, GENESIS),
        5: Head(0, 0, GENESIS),
    }


async def test_every_process_sees_the_same_ledger(record: Record) -> None:
    first, second = await record.client().identity(), await record.client().identity()
    assert first == second
    assert first.partitions == TEST_PARTITIONS


# --- claims ---------------------------------------------------------------------------------------------------------


async def test_a_first_claim_finds_an_empty_partition(record: Record) -> None:
    claim = await record.client().claim(3, "a")
    assert claim is not None
    assert (claim.partition, claim.epoch, claim.sequence, claim.hash) == (3, 1, 0, GENESIS)
    assert (claim.occurred_at, claim.published_sequence, claim.consumed, claim.marks) == (None, 0, 0, {})
    assert (claim.same_position_as_last_claim, claim.trying, claim.trying_claims) == (False, None, 0)
    assert (await record.head(3))["holder"] == "a"


async def test_a_claims_clock_is_the_records_and_in_utc(record: Record) -> None:
    claim = await record.client().claim(0, "a")
    assert claim is not None
    assert claim.clock.utcoffset() == timedelta(0)
    assert abs(claim.clock - datetime.now(UTC)) < timedelta(seconds=60)


async def test_each_claim_raises_the_epoch_of_its_partition_alone(record: Record) -> None:
    epochs = []
    for client in (record.client(), record.client(), record.client()):
        claim = await client.claim(0, "x")
        assert claim is not None
        epochs.append(claim.epoch)
    assert epochs == [1, 2, 3]
    assert (await record.head(1))["epoch"] == 0


async def test_concurrent_claims_get_different_epochs(record: Record) -> None:
    clients = [record.client() for _ in range(5)]
    claims = await asyncio.gather(*(client.claim(0, f"client {n}") for n, client in enumerate(clients)))
    assert sorted(claim.epoch for claim in claims if claim is not None) == [1, 2, 3, 4, 5]


async def test_a_claim_finds_where_the_one_before_ended(record: Record) -> None:
    first = await holding(record, 2)
    first.entry(2)
    first.entry(2, occurred_at=ISSUED_AT)
    first.published[2] = 1
    assert isinstance(await first.write(), Appended)
    claim = await record.client().claim(2, "second")
    assert claim is not None
    assert (claim.epoch, claim.sequence, claim.hash) == (2, 2, first.places[2].hash)
    assert (claim.occurred_at, claim.published_sequence, claim.consumed) == (ISSUED_AT, 1, 2)
    assert claim.marks == {APP: ConsumedMark(2, 1, 1_700_000_000_000, b"digest")}


async def test_a_claim_sees_the_marks_of_its_own_partition_only_by_app(record: Record) -> None:
    hand = await holding(record, 0, 1)
    hand.draft(0), hand.draft(1)
    batch = hand.build()
    marks = {app: ConsumedMark(n + 1, n, n, bytes([n])) for n, app in enumerate(("a", "b"))}
    batch.offsets.extend(OffsetAdvance(app, 0, None, mark) for app, mark in marks.items())
    batch.offsets.append(OffsetAdvance("a", 1, None, ConsumedMark(77, 76, 75, b"")))
    assert isinstance(await hand.store.append(batch), Appended)
    claim = await record.client().claim(0, "next")
    assert claim is not None
    assert claim.marks == marks


async def test_a_claim_on_condition_succeeds_at_that_epoch(record: Record) -> None:
    client = record.client()
    first = await client.claim(0, "a")
    assert first is not None
    again = await client.claim(0, "a", if_epoch=first.epoch)
    assert again is not None
    assert again.epoch == first.epoch + 1


async def test_a_claim_on_condition_fails_when_another_holder_came_between(record: Record) -> None:
    client = record.client()
    first = await client.claim(0, "a")
    assert first is not None
    await record.client().claim(0, "b")
    assert await client.claim(0, "a", if_epoch=first.epoch) is None
    head = await record.head(0)
    assert (head["epoch"], head["holder"]) == (2, "b")


async def test_a_partition_that_the_ledger_does_not_have_cannot_be_claimed(record: Record) -> None:
    with pytest.raises(RecordMismatchError):
        await record.client().claim(TEST_PARTITIONS, "a")
    assert await record.client().claim(TEST_PARTITIONS, "a", if_epoch=1) is None


async def test_what_is_note_alive_is_what_nobody_has_claimed_since(record: Record) -> None:
    hand = await holding(record, 0, 1, 2)
    held = {partition: place.epoch for partition, place in hand.places.items()}
    assert (await hand.store.note_alive(held)).held == {0, 1, 2}
    await record.client().claim(1, "newer")
    assert (await hand.store.note_alive(held)).held == {0, 2}
    assert (await hand.store.note_alive({0: 99, TEST_PARTITIONS: 1})).held == frozenset()
    await hand.store.note_calm(held, release=True)
    assert (await hand.store.note_alive(held)).held == {0, 2}
    assert await hand.store.note_alive({}) == Alive(frozenset(), frozenset(), None)


async def test_what_was_taken_and_given_back_since_is_free(record: Record) -> None:
    hand = await holding(record, 0, 1)
    newer = record.client()
    for partition in (0, 1):
        await newer.claim(partition, "newer")
    await newer.note_calm({1: 2}, release=True)
    alive = await hand.store.note_alive({0: 1, 1: 1})
    assert (set(alive.held), set(alive.released)) == (set(), {1})


async def test_who_lives_learns_the_records_clock(record: Record) -> None:
    hand = await holding(record, 0)
    alive = await hand.store.note_alive({0: 1})
    assert alive.clock is not None
    assert abs(alive.clock - datetime.now(UTC)) < timedelta(seconds=60)


# --- the fence ------------------------------------------------------------------------------------------------------


async def nothing_was_appended(record: Record, before: dict[str, int]) -> bool:
    return await record.counts() == before


async def test_a_fenced_holder_appends_nothing(record: Record) -> None:
    stale = await holding(record, 0)
    await record.client().claim(0, "newer")
    before, head = await record.counts(), await record.head(0)
    stale.entry(0)
    stale.unreadable(0, key=b"k", value=b"v")
    assert await stale.write() == Fenced(frozenset({0}))
    assert await nothing_was_appended(record, before)
    assert await record.head(0) == head


async def test_a_batch_with_one_lost_partition_appends_nothing_on_the_others(record: Record) -> None:
    stale = await holding(record, 0, 1, 2)
    await record.client().claim(1, "newer")
    before = await record.counts()
    for partition in (0, 1, 2):
        stale.entry(partition, owner_id=f"owner {partition}")
    assert await stale.write() == Fenced(frozenset({1}))
    assert await nothing_was_appended(record, before)
    assert [(await record.head(partition))["sequence"] for partition in (0, 1, 2)] == [0, 0, 0]


async def test_after_a_fence_the_rest_of_the_partitions_can_be_written(record: Record) -> None:
    stale = await holding(record, 0, 1)
    await record.client().claim(1, "newer")
    stale.entry(1)
    assert await stale.write() == Fenced(frozenset({1}))
    stale.forget()
    stale.entry(0)
    assert isinstance(await stale.write(), Appended)


async def test_all_lost_partitions_are_named(record: Record) -> None:
    stale = await holding(record, 0, 1, 2)
    newer = record.client()
    await newer.claim(0, "newer")
    await newer.claim(2, "newer")
    for partition in (0, 1, 2):
        stale.draft(partition)
    assert await stale.write() == Fenced(frozenset({0, 2}))


async def test_an_epoch_from_the_future_is_fenced_too(record: Record) -> None:
    hand = await holding(record, 0)
    hand.places[0].epoch += 1
    hand.entry(0)
    assert await hand.write() == Fenced(frozenset({0}))


async def test_the_fence_returns_the_records_clock(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    first = await hand.write()
    hand.entry(0)
    second = await hand.write()
    assert isinstance(first, Appended)
    assert isinstance(second, Appended)
    assert first.clock <= second.clock
    assert abs(first.clock - datetime.now(UTC)) < timedelta(seconds=60)


# --- append: heads and offsets --------------------------------------------------------------------------------------


async def test_an_append_moves_heads_offsets_and_counts(record: Record) -> None:
    hand = await holding(record, 0, 5)
    hand.entry(0), hand.entry(0), hand.entry(5, owner_id="other")
    assert isinstance(await hand.write(), Appended)
    for partition, sequence in ((0, 2), (5, 1)):
        head = await record.head(partition)
        assert (head["sequence"], head["consumed"]) == (sequence, sequence)
        assert (head["hash"], head["occurred_at"]) == (hand.places[partition].hash, ISSUED_AT)
    assert await record.counts() == {
        "event": 3,
        "command_key": 3,
        "nonce_key": 3,
        "account": 2,
        "command_offset": 2,
        "quarantine": 0,
    }


async def test_a_batch_that_only_consumes_moves_the_offset_and_nothing_else(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    await hand.write()
    hand.draft(0).next_offset = 9
    assert isinstance(await hand.write(), Appended)
    head = await record.head(0)
    assert (head["sequence"], head["consumed"], head["occurred_at"]) == (1, 9, ISSUED_AT)


async def test_a_head_that_does_not_stand_where_the_writer_thinks_is_refused(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    await hand.write()
    hand.entry(0)
    before = await record.counts()
    for sequence in (0, 2):
        batch = hand.build()
        batch.heads[0] = replace(batch.heads[0], sequence_before=sequence, sequence=sequence + 1)
        with pytest.raises(RecordMismatchError):
            await hand.store.append(batch)
    assert await nothing_was_appended(record, before)


async def test_a_head_that_moves_further_than_there_are_events_is_refused(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    batch = hand.build()
    batch.heads[0] = replace(batch.heads[0], sequence=2)
    with pytest.raises(RecordMismatchError):
        await hand.store.append(batch)
    assert (await record.head(0))["sequence"] == 0


async def test_an_event_without_a_command_key_is_refused(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    batch = hand.build()
    batch.command_keys.clear()
    with pytest.raises(RecordMismatchError):
        await hand.store.append(batch)
    assert (await record.head(0))["sequence"] == 0


async def test_sequences_have_no_gap_over_many_batches_and_holders(record: Record) -> None:
    hand = await holding(record, 0)
    for size in (1, 3, 2):
        for _ in range(size):
            hand.entry(0)
        await hand.write()
        await hand.claim(0)
    events = await hand.store.read_events(0, 0, 100)
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5, 6]


async def test_an_offset_that_is_not_the_expected_one_is_refused(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    await hand.write()
    before = await record.counts()
    for expected in (0, 2, None):
        hand.entry(0)
        batch = hand.build()
        batch.offsets[0] = batch.offsets[0]._replace(expected=expected)
        with pytest.raises(RecordMismatchError):
            await hand.store.append(batch)
        hand.forget()
    assert await nothing_was_appended(record, before)


async def test_an_offset_that_does_not_exist_yet_cannot_be_expected(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0)
    batch = hand.build()
    batch.offsets[0] = batch.offsets[0]._replace(expected=0)
    with pytest.raises(RecordMismatchError):
        await hand.store.append(batch)
    assert await record.counts() == dict.fromkeys(await record.counts(), 0)


async def test_an_event_that_exists_already_is_refused(record: Record) -> None:
    hand = await holding(record, 0, 1)
    hand.entry(0)
    await hand.write()
    hand.entry(1, owner_id="other")
    batch = hand.build()
    row = list(batch.events[0])
    row[:2] = (0, 1)
    batch.events[0] = tuple(row)
    with pytest.raises(RecordMismatchError):
        await hand.store.append(batch)
    assert (await record.head(1))["sequence"] == 0


# --- append: keys ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rejected_first", [False, True], ids=["after an entry", "after a rejection"])
@pytest.mark.parametrize("rejected_second", [False, True], ids=["an entry", "a rejection"])
async def test_a_command_id_is_taken_for_ever(record: Record, rejected_first: bool, rejected_second: bool) -> None:
    hand = await holding(record, 0)
    command_id = hand.entry(0, reason="EXPIRED" if rejected_first else None)
    await hand.write()
    await hand.claim(0)
    before, head = await record.counts(), await record.head(0)
    hand.entry(0, command_id=command_id, nonce="another", reason="EXPIRED" if rejected_second else None)
    assert await hand.write() == KeyTaken()
    assert await nothing_was_appended(record, before)
    assert await record.head(0) == head


@pytest.mark.parametrize("other", [{"owner_id": "somebody else"}, {"app": "another-app"}], ids=["owner", "app"])
async def test_a_command_id_and_a_nonce_are_free_for_another(record: Record, other: dict[str, str]) -> None:
    hand = await holding(record, 0)
    command_id = hand.entry(0, nonce="n")
    await hand.write()
    hand.entry(0, command_id=command_id, nonce="n", **other)  # type: ignore[arg-type]
    assert isinstance(await hand.write(), Appended)


async def test_the_nonce_of_an_entry_is_taken_for_ever(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0, nonce="n")
    await hand.write()
    before = await record.counts()
    hand.entry(0, nonce="n")
    assert await hand.write() == KeyTaken()
    assert await nothing_was_appended(record, before)


async def test_the_nonce_of_a_rejection_is_free(record: Record) -> None:
    hand = await holding(record, 0)
    hand.rejection(0, nonce="n")
    await hand.write()
    hand.entry(0, nonce="n")
    assert isinstance(await hand.write(), Appended)


@pytest.mark.parametrize("what", ["command id", "nonce"])
async def test_a_key_taken_within_the_batch_is_taken_too(record: Record, what: str) -> None:
    hand = await holding(record, 0)
    command_id = hand.entry(0, nonce="n")
    hand.entry(0, **({"command_id": command_id} if what == "command id" else {"nonce": "n"}))
    assert await hand.write() == KeyTaken()
    assert await record.counts() == dict.fromkeys(await record.counts(), 0)


async def test_a_taken_key_rolls_back_every_partition_and_the_quarantine(record: Record) -> None:
    hand = await holding(record, 0, 1)
    hand.entry(0, nonce="n")
    await hand.write()
    before, heads = await record.counts(), [await record.head(0), await record.head(1)]
    hand.entry(1, owner_id="other")
    hand.unreadable(1, key=None, value=None)
    hand.entry(0, nonce="n")
    assert await hand.write() == KeyTaken()
    assert await nothing_was_appended(record, before)
    assert [await record.head(0), await record.head(1)] == heads


async def test_after_a_taken_key_the_batch_can_be_decided_again(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0, nonce="n")
    await hand.write()
    hand.entry(0, nonce="n")
    assert await hand.write() == KeyTaken()
    hand.forget()
    hand.rejection(0, "DUPLICATE_NONCE", nonce="n")
    assert isinstance(await hand.write(), Appended)


async def test_keys_are_looked_up(record: Record) -> None:
    hand = await holding(record, 0, 1)
    accepted = hand.entry(0, nonce="used")
    rejected = hand.rejection(1, nonce="free")
    await hand.write()
    ours = [command_key(APP, "owner", command_id) for command_id in (accepted, rejected)]
    strangers = [command_key("another-app", "owner", accepted), command_key(APP, "owner", uuid4())]
    found = await hand.store.look_up(
        [*ours, *strangers], [nonce_key(APP, "owner", "used"), nonce_key(APP, "owner", "free")]
    )
    assert dict(found.commands) == {ours[0]: Position(0, 1), ours[1]: Position(1, 1)}
    assert dict(found.nonces) == {nonce_key(APP, "owner", "used"): Position(0, 1)}


async def test_looking_up_nothing_finds_nothing(record: Record) -> None:
    found = await record.client().look_up([], [])
    assert (dict(found.commands), dict(found.nonces)) == ({}, {})


# --- append: accounts -----------------------------------------------------------------------------------------------


async def test_accounts_are_loaded_as_they_were_written(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0, 5, owner_id="a")
    hand.entry(0, 2, owner_id="a")
    hand.entry(0, 1, owner_id="a", credit_type="points")
    hand.entry(0, 2**53 - 1, owner_id="b")
    await hand.write()
    wanted = [
        AccountKey("a", "credits"),
        AccountKey("a", "points"),
        AccountKey("b", "credits"),
        AccountKey("b", "points"),
        AccountKey("unknown", "credits"),
    ]
    assert dict(await record.client().load_accounts(wanted)) == {
        AccountKey("a", "credits"): Account(7, 2),
        AccountKey("a", "points"): Account(1, 1),
        AccountKey("b", "credits"): Account(2**53 - 1, 1),
    }
    assert dict(await record.client().load_accounts([])) == {}


@pytest.mark.parametrize("version", [0, 1, 2])
async def test_an_accounts_version_only_rises(record: Record, version: int) -> None:
    hand = await holding(record, 0)
    hand.entry(0, 1), hand.entry(0, 1)
    await hand.write()
    before = await record.counts()
    hand.entry(0, 5)
    batch = hand.build()
    batch.accounts[AccountKey("owner", "credits")] = Account(7, version)
    with pytest.raises(RecordMismatchError):
        await hand.store.append(batch)
    assert await nothing_was_appended(record, before)
    assert dict(await hand.store.load_accounts(batch.accounts)) == {AccountKey("owner", "credits"): Account(2, 2)}


async def test_the_record_refuses_a_balance_below_zero(record: Record) -> None:
    hand = await holding(record, 0)
    hand.entry(0, -1)
    hand.entry(0, 1)
    hand.entry(0, -1)
    with pytest.raises(RecordMismatchError):
        await hand.write()
    assert await record.counts() == dict.fromkeys(await record.counts(), 0)


# --- reads ----------------------------------------------------------------------------------------------------------


async def test_events_are_read_back_as_they_were_written(record: Record) -> None:
    hand = await holding(record, 4)
    accepted = hand.entry(4, 12, nonce="n", metadata='{"b": 1.50, "a": [1e2, "é"], "b": null}')
    rejected = hand.rejection(4, "EXPIRED", operation="DAILY_REWARD", credit_type="points", nonce="m")
    await hand.write()
    first, second = await record.client().read_events(4, 0, 10)
    assert (first.type, first.position, first.app, first.owner_id) == ("entry_posted", Position(4, 1), APP, "owner")
    assert (first.command_id, first.operation, first.nonce) == (accepted, "CREDIT_ADD", "n")
    assert (first.amount, first.balance_after, first.account_version) == (12, 12, 1)
    assert (first.issued_at, first.occurred_at) == (ISSUED_AT, ISSUED_AT)
    assert first.metadata is not None
    assert bytes(first.metadata).decode() == '{"b": 1.50, "a": [1e2, "é"], "b": null}'
    assert (first.reason, first.detail, first.accepted) == (None, None, True)
    assert (second.type, second.reason, second.detail) == ("command_rejected", "EXPIRED", "because")
    assert (second.command_id, second.credit_type, second.amount) == (rejected, "points", 0)
    assert second.metadata is None


async def test_every_event_read_names_the_hash_of_the_one_before(record: Record) -> None:
    hand = await holding(record, 0)
    for _ in range(5):
        hand.entry(0)
    await hand.write()
    events = await hand.store.read_events(0, 0, 10)
    assert events[0].prev_hash == GENESIS.hex()
    assert [event.prev_hash for event in events[1:]] == [event.hash for event in events[:-1]]
    assert events[-1].hash == hand.places[0].hash.hex()
    for after in range(5):
        assert list(await hand.store.read_events(0, after, 10)) == events[after:]


async def test_reads_have_a_limit(record: Record) -> None:
    hand = await holding(record, 0)
    for _ in range(5):
        hand.entry(0)
    await hand.write()
    read = hand.store.read_events
    assert [event.sequence for event in await read(0, 0, 2)] == [1, 2]
    assert [event.sequence for event in await read(0, 2, 2)] == [3, 4]
    assert [event.sequence for event in await read(0, 4, 2)] == [5]
    assert list(await read(0, 5, 2)) == []
    assert list(await read(0, 900, 2)) == []
    assert list(await read(1, 0, 2)) == []


async def test_events_are_read_by_their_positions(record: Record) -> None:
    hand = await holding(record, 0, 1)
    hand.entry(0), hand.entry(0), hand.entry(1, owner_id="other")
    await hand.write()
    all_of_them = [*await hand.store.read_events(0, 0, 9), *await hand.store.read_events(1, 0, 9)]
    positions = [event.position for event in all_of_them]
    found = await hand.store.read_events_at([*positions, Position(0, 3), Position(1, 0), Position(2, 1)])
    assert dict(found) == dict(zip(positions, all_of_them, strict=True))
    assert dict(await hand.store.read_events_at([])) == {}


async def test_what_one_process_appended_another_reads_at_once(record: Record) -> None:
    hand, reader = await holding(record, 0), record.client()
    assert list(await reader.read_events(0, 0, 1)) == []
    hand.entry(0)
    await hand.write()
    assert len(await reader.read_events(0, 0, 1)) == 1


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    ],
    ids=["the first", "before 1970", "the last"],
)
async def test_times_at_the_edges(record: Record, time: datetime) -> None:
    hand = await holding(record, 0)
    hand.entry(0, issued_at=time, occurred_at=time)
    await hand.write()
    (event,) = await hand.store.read_events(0, 0, 1)
    assert (event.issued_at, event.occurred_at) == (time, time)
    assert event.issued_at.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    ["\U0001f600" * 128, "\x01\x7f\u2028\ufeff", "a' \\ \t\n\r \"", "  ", "e\u0301", "\uffff\U0010ffff"],
    ids=["128 astral code points", "controls", "quotes", "spaces", "not normalised", "non-characters"],
)
async def test_texts_at_the_edges(record: Record, text: str) -> None:
    hand = await holding(record, 0)
    command_id = hand.entry(
        0, owner_id=text, nonce=text, operation=text, credit_type=text, reason="EXPIRED", detail=text
    )
    hand.entry(0, owner_id=text, nonce=text)
    await hand.write()
    rejected, accepted = await hand.store.read_events(0, 0, 2)
    assert {rejected.owner_id, rejected.nonce, rejected.operation, rejected.credit_type, rejected.detail} == {text}
    assert (accepted.owner_id, accepted.nonce) == (text, text)
    found = await hand.store.look_up([command_key(APP, text, command_id)], [nonce_key(APP, text, text)])
    assert len(found.commands) == len(found.nonces) == 1
    assert dict(await hand.store.load_accounts([AccountKey(text, "credits")])) == {
        AccountKey(text, "credits"): Account(1, 1)
    }


async def test_amounts_and_offsets_at_the_edges(record: Record) -> None:
    hand = await holding(record, 0)
    hand.draft(0).next_offset = 2**62
    hand.entry(0, 2**53 - 1)
    hand.entry(0, -(2**53 - 1))
    await hand.write()
    up, down = await hand.store.read_events(0, 0, 2)
    assert (up.amount, up.balance_after, down.amount, down.balance_after) == (2**53 - 1, 2**53 - 1, -(2**53 - 1), 0)


async def test_command_ids_of_any_version_are_kept(record: Record) -> None:
    hand = await holding(record, 0)
    ids = [UUID(int=0), UUID(int=2**128 - 1), UUID("6f1b6d3a-6f0e-5c0e-9a53-3c1d2f0f7a10")]
    for command_id in ids:
        hand.entry(0, command_id=command_id)
    await hand.write()
    assert [event.command_id for event in await hand.store.read_events(0, 0, 9)] == ids


# --- the quarantine -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, None),
        (b"", b""),
        (b"\0", b"\0\0\0"),
        (b"\xff\xfe", b"\xed\xa0\x80 not UTF-8"),
        (b"k" * 5_000, bytes(range(256)) * 8_192),
    ],
    ids=["null", "empty", "NUL", "not UTF-8", "2 MB"],
)
async def test_the_quarantine_keeps_every_byte(record: Record, key: bytes | None, value: bytes | None) -> None:
    hand = await holding(record, 7)
    hand.entry(7)
    offset = hand.unreadable(7, key=key, value=value, detail="why \\ée")
    hand.entry(7)
    assert isinstance(await hand.write(), Appended)
    (row,) = await record.quarantine()
    assert (row.app, row.partition, row.command_offset, row.timestamp_ms) == (APP, 7, offset, 1_700_000_000_000)
    assert (row.key, row.value, row.reason, row.detail) == (key, value, "NOT_JSON", "why \\ée")
    assert (await record.head(7))["consumed"] == 3


async def test_a_message_is_quarantined_once(record: Record) -> None:
    hand = await holding(record, 0)
    hand.unreadable(0, key=None, value=b"x")
    await hand.write()
    row = (await record.quarantine())[0]
    hand.draft(0)
    hand.batch.quarantine.append(row)
    with pytest.raises(RecordMismatchError):
        await hand.write()
    assert await record.quarantine() == [row]


# --- notes on the head ----------------------------------------------------------------------------------------------


async def test_published_only_rises(record: Record) -> None:
    hand = await holding(record, 0)
    for _ in range(5):
        hand.entry(0)
    await hand.write()
    epoch = hand.places[0].epoch
    seen = []
    for sequence in (2, 1, 3, 3, 0):
        await hand.store.note_published(0, epoch, sequence)
        seen.append((await record.head(0))["published_sequence"])
    assert seen == [2, 2, 3, 3, 3]
    hand.published[0] = 1
    hand.draft(0)
    await hand.write()
    assert (await record.head(0))["published_sequence"] == 3
    hand.published[0] = 5
    hand.draft(0)
    await hand.write()
    assert (await record.head(0))["published_sequence"] == 5


async def test_published_never_rises_beyond_the_record(record: Record) -> None:
    """Of a copy that lost events, what takes their places must be published."""
    hand = await holding(record, 0)
    hand.entry(0)
    await hand.write()
    await hand.store.note_published(0, hand.places[0].epoch, 2)
    assert (await record.head(0))["published_sequence"] == 0


async def test_published_rises_for_the_holder_only(record: Record) -> None:
    stale = await holding(record, 0)
    for _ in range(5):
        stale.entry(0)
    await stale.write()
    await record.client().claim(0, "newer")
    await stale.store.note_published(0, stale.places[0].epoch, 5)
    assert (await record.head(0))["published_sequence"] == 0


async def test_a_claim_without_progress_sees_that_the_one_before_had_none_either(record: Record) -> None:
    async def same() -> bool:
        claim = await record.client().claim(0, "x")
        assert claim is not None
        return claim.same_position_as_last_claim

    assert [await same(), await same(), await same()] == [False, True, True]
    hand = await holding(record, 0)
    hand.entry(0)
    await hand.write()
    assert [await same(), await same()] == [False, True]


async def test_progress_without_events_is_progress(record: Record) -> None:
    hand = await holding(record, 0)
    hand.unreadable(0, key=None, value=None)
    await hand.write()
    claim = await record.client().claim(0, "x")
    assert claim is not None
    assert not claim.same_position_as_last_claim


@pytest.mark.parametrize("release", [False, True], ids=["nothing to read", "given up cleanly"])
async def test_calm_begins_the_count_anew(record: Record, release: bool) -> None:
    hand = await holding(record, 0, 1)
    for partition in (0, 1):
        await hand.store.note_trying(partition, 1, "a:7")
    await hand.store.note_calm({0: 1, 1: 1}, release=release)
    for partition in (0, 1):
        head = await record.head(partition)
        assert (head["trying"], head["trying_claims"], head["epoch"]) == (None, 0, 1)
        assert head["holder"] == (None if release else "hand")
        claim = await record.client().claim(partition, "next")
        assert claim is not None
        assert not claim.same_position_as_last_claim


async def test_calm_is_for_the_holder_only(record: Record) -> None:
    stale = await holding(record, 0)
    newer = record.client()
    await newer.claim(0, "newer")
    await newer.note_trying(0, 2, "a:7")
    await stale.store.note_calm({0: 1}, release=True)
    head = await record.head(0)
    assert (head["holder"], head["trying"], head["trying_claims"]) == ("newer", "a:7", 1)
    await newer.note_calm({})


async def test_claims_that_try_the_same_record_are_counted(record: Record) -> None:
    seen = []
    for trying in ("a:7", "a:7", "a:7", "a:8", "b:8", "b:8"):
        client = record.client()
        claim = await client.claim(0, "x")
        assert claim is not None
        seen.append(await client.note_trying(0, claim.epoch, trying))
    assert seen == [1, 2, 3, 1, 1, 2]
    claim = await record.client().claim(0, "x")
    assert claim is not None
    assert (claim.trying, claim.trying_claims) == ("b:8", 2)


async def test_a_fenced_holder_tries_nothing(record: Record) -> None:
    stale = await holding(record, 0)
    await record.client().claim(0, "newer")
    assert await stale.store.note_trying(0, 1, "a:7") is None
    head = await record.head(0)
    assert (head["trying"], head["trying_claims"]) == (None, 0)


async def test_an_append_ends_the_trying(record: Record) -> None:
    hand = await holding(record, 0)
    await hand.store.note_trying(0, 1, "a:0")
    hand.entry(0)
    await hand.write()
    head = await record.head(0)
    assert (head["trying"], head["trying_claims"]) == (None, 0)


async def test_why_a_partition_stands_still_is_written_by_its_holder_until_the_next_claim(record: Record) -> None:
    hand = await holding(record, 0)
    halt = Halt("a reason", "a:0:7", {"app-ä": "another reason"})
    await hand.store.note_halted(0, 99, halt)
    assert (await record.head(0))["halted_because"] is None
    await hand.store.note_halted(0, 1, halt)
    assert (await record.head(0))["halted_because"] == "a reason"
    assert (await record.head(0))["halted_record"] == "a:0:7"
    apps = (await record.head(0))["halted_apps"]
    assert (json.loads(apps) if isinstance(apps, str) else apps) == halt.apps
    await hand.store.note_halted(0, 1, Halt())
    head = await record.head(0)
    assert (head["halted_because"], head["halted_record"], head["halted_apps"]) == (None, None, None)
    await hand.store.note_halted(0, 1, halt)
    await hand.claim(0)
    head = await record.head(0)
    assert (head["halted_because"], head["halted_record"], head["halted_apps"]) == (None, None, None)


# --- many at once ---------------------------------------------------------------------------------------------------


async def test_processes_on_different_partitions_do_not_disturb_each_other(record: Record) -> None:
    async def work(partition: int) -> int:
        hand = await holding(record, partition)
        for round_number in range(5):
            for _ in range(round_number + 1):
                hand.entry(partition, owner_id=f"owner {partition}")
            assert isinstance(await hand.write(), Appended)
        return hand.places[partition].sequence

    assert await asyncio.gather(*(work(partition) for partition in range(4))) == [15, 15, 15, 15]
    assert (await record.counts())["event"] == 60


async def test_of_two_that_think_they_hold_a_partition_only_the_newer_one_writes(record: Record) -> None:
    hands = [await holding(record, 0) for _ in range(3)]
    for hand in hands:
        hand.entry(0)
    results: list[Any] = await asyncio.gather(*(hand.write() for hand in hands))
    assert results[:2] == [Fenced(frozenset({0}))] * 2
    assert isinstance(results[2], Appended)
