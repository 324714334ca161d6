"""What an operator changes in the record by hand: fenced, refused where it does not apply, and written down."""

from collections.abc import AsyncIterator

import asyncpg
import msgspec
import pytest

from ledger.broker.protocol import Record as KafkaRecord
from ledger.event_store.connections import connect
from ledger.event_store.interventions import (
    Deed,
    InterventionRefusedError,
    MarkChange,
    list_interventions,
    move_marks,
    read_marks_of,
    resume_partitions,
    set_aside,
)
from ledger.event_store.protocol import Appended, ConsumedMark, Fenced, Halt
from ledger.event_store.quarantine import list_quarantined, resolve_quarantined
from tests.contract.hand import APP, Hand
from tests.contract.records import RecordInPostgres

pytestmark = pytest.mark.integration

DEED = Deed("grace", "a test")
RECORD = KafkaRecord("commands", 0, 1, 7, b"key", b"value")
BEHIND_IT = ConsumedMark(2, 1, 7, b"digest")


@pytest.fixture
async def owner(postgres: RecordInPostgres) -> AsyncIterator[asyncpg.Connection]:
    """As whom the command line acts."""
    connection = await connect(postgres.url, role="ledger_owner", application="tests")
    try:
        yield connection
    finally:
        connection.terminate()


@pytest.fixture
async def hand(postgres: RecordInPostgres) -> Hand:
    """A holder of partition 0 with one event, which it says stands at the next record."""
    hand = Hand(postgres.client())
    await hand.claim(0)
    hand.entry(0)
    assert isinstance(await hand.write(), Appended)
    await hand.store.note_halted(0, hand.places[0].epoch, Halt("a reason", f"{APP}:0:1"))
    return hand


async def test_an_intervention_takes_the_partition_from_its_holder_and_leaves_it_free(
    hand: Hand, owner: asyncpg.Connection
) -> None:
    epoch = hand.places[0].epoch
    await resume_partitions(owner, [0], DEED)
    hand.entry(0)
    assert await hand.write() == Fenced(frozenset({0}))
    alive = await hand.store.note_alive({0: epoch})
    assert (set(alive.held), set(alive.released)) == (set(), {0})


async def test_what_is_not_halted_is_not_resumed(hand: Hand, owner: asyncpg.Connection) -> None:
    await hand.store.note_halted(0, hand.places[0].epoch, Halt())
    with pytest.raises(InterventionRefusedError, match="partition 0 is not halted"):
        await resume_partitions(owner, [0], DEED)
    hand.entry(0)
    assert isinstance(await hand.write(), Appended), "nothing was changed"


async def test_a_record_is_put_aside_only_where_its_partition_stands(
    postgres: RecordInPostgres, hand: Hand, owner: asyncpg.Connection
) -> None:
    before = (await read_marks_of(owner, APP))[0]
    with pytest.raises(InterventionRefusedError, match=f"does not stand at {APP}:0:5"):
        await set_aside(owner, APP, msgspec.structs.replace(RECORD, offset=5), before, BEHIND_IT, DEED)
    assert (await postgres.counts())["quarantine"] == 0
    await set_aside(owner, APP, RECORD, before, BEHIND_IT, DEED)
    assert (await read_marks_of(owner, APP))[0].mark == BEHIND_IT
    [quarantined] = await list_quarantined(owner)
    assert (quarantined.reason, quarantined.key, quarantined.value) == ("SET_ASIDE", b"key", b"value")


async def test_a_log_that_was_consumed_meanwhile_is_not_moved(
    postgres: RecordInPostgres, hand: Hand, owner: asyncpg.Connection
) -> None:
    before = (await read_marks_of(owner, APP))[0]
    hand.entry(0)
    assert isinstance(await hand.write(), Appended)
    with pytest.raises(InterventionRefusedError, match="meanwhile"):
        await move_marks(owner, "leave-behind", APP, [MarkChange(0, before, 9, new_log=False)], DEED)
    assert (await read_marks_of(owner, APP))[0].mark.next_offset == 2
    assert not await list_interventions(owner)


async def test_what_was_done_is_written_down_and_stays(hand: Hand, owner: asyncpg.Connection) -> None:
    before = (await read_marks_of(owner, APP))[0]
    await move_marks(owner, "begin-generation", APP, [MarkChange(0, before, 0, new_log=True)], DEED)
    [deed] = await list_interventions(owner)
    assert (deed.operator, deed.reason, deed.kind, deed.subject) == (
        "grace",
        "a test",
        "begin-generation",
        f"app {APP}",
    )
    assert deed.before["marks"] == {"0": {"next_offset": 1, "generation": 1}}
    assert deed.after["marks"] == {"0": {"next_offset": 0, "generation": 2}}
    for table in ("intervention", "command_generation"):
        assert await owner.fetchval(f"SELECT count(*) FROM ledger.{table}") == 1
        for change in ("UPDATE ledger.{} SET {} = {}", "DELETE FROM ledger.{}", "TRUNCATE ledger.{}"):
            column = "kind" if table == "intervention" else "generation"
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await owner.execute(change.format(table, column, column))


async def test_two_operators_at_one_message_do_not_undo_each_other(hand: Hand, owner: asyncpg.Connection) -> None:
    await set_aside(owner, APP, RECORD, (await read_marks_of(owner, APP))[0], BEHIND_IT, DEED)
    [waiting] = await list_quarantined(owner)
    assert await resolve_quarantined(owner, waiting.id, "discarded", "by grace")
    assert not await resolve_quarantined(owner, waiting.id, "retried", "by alan")
    [resolved] = await list_quarantined(owner, status=None)
    assert (resolved.status, resolved.resolution) == ("discarded", "by grace")
