"""What a projection worker may rely on: the same in memory and in Postgres."""

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

import asyncpg
import msgspec
import pytest

from ledger.domain.chain import GENESIS
from ledger.domain.event import RecordedEvent
from ledger.event_store.protocol import Appended, EventStore, ForeignLedgerError, StoreUnavailableError
from projections.balances.fold import last_entries
from projections.feed import Feed, FeedKey
from projections.postgres_store import PostgresProjectionStore
from projections.read_model import ReadModelMismatchError
from projections.registry import READ_MODELS
from projections.store import Advance, ProjectionStore
from projections.testing import InMemoryProjections, InMemoryProjectionStore
from projections.versions import install
from tests.contract.hand import Hand
from tests.contract.records import RecordInMemory, RecordInPostgres

NAMES = [model.name for model in READ_MODELS]
Balances = dict[tuple[str, str], tuple[int, int]]


class Place(Protocol):
    """A record with installed read models, and what a test wants to see in them."""

    def client(self) -> ProjectionStore: ...

    def writer(self) -> EventStore: ...

    async def checkpoint(self, key: FeedKey) -> dict[str, object]: ...

    async def balances(self) -> Balances: ...

    async def lines(self) -> list[tuple[int, int]]: ...


class PlaceInMemory:
    def __init__(self, record: RecordInMemory) -> None:
        self.record = record
        self.projections = InMemoryProjections(record.record)
        self.projections.install(NAMES)

    def client(self) -> ProjectionStore:
        return InMemoryProjectionStore(self.projections)

    def writer(self) -> EventStore:
        return self.record.client()

    async def checkpoint(self, key: FeedKey) -> dict[str, object]:
        found = self.projections.checkpoints[key]
        return {name: getattr(found, name) for name in ("epoch", "sequence", "hash", "next_offset", "holder")} | {
            "halted_because": found.halted_because
        }

    async def balances(self) -> Balances:
        taken = [event for key in self.projections.checkpoints for event in self._taken(key, "balances")]
        return {key: (event.balance_after, event.account_version) for key, event in last_entries(taken).items()}

    async def lines(self) -> list[tuple[int, int]]:
        taken = [event for key in self.projections.checkpoints for event in self._taken(key, "statements")]
        return sorted((event.partition, event.sequence) for event in taken)

    def _taken(self, key: FeedKey, name: str) -> Sequence[RecordedEvent]:
        return self.projections.checkpoints[key].taken if key.read_model == name else ()


class PlaceInPostgres:
    def __init__(self, record: RecordInPostgres) -> None:
        self.record = record
        self.clients: list[PostgresProjectionStore] = []

    def client(self) -> ProjectionStore:
        self.clients.append(PostgresProjectionStore(self.record.url, READ_MODELS, "test"))
        return self.clients[-1]

    def writer(self) -> EventStore:
        return self.record.client()

    async def checkpoint(self, key: FeedKey) -> dict[str, object]:
        row = await self.record.connection.fetchrow(
            "SELECT epoch, sequence, encode(hash, 'hex') AS hash, next_offset, holder, halted_because "
            "FROM projections.checkpoint WHERE (read_model, version, partition) = ($1, $2, $3)",
            *key,
        )
        assert row is not None
        return dict(row)

    async def balances(self) -> Balances:
        rows = await self.record.connection.fetch("SELECT * FROM projections.balances_v1")
        return {(row["owner_id"], row["credit_type"]): (row["balance"], row["account_version"]) for row in rows}

    async def lines(self) -> list[tuple[int, int]]:
        rows = await self.record.connection.fetch(
            "SELECT partition, sequence FROM projections.statements_v1 ORDER BY 1, 2"
        )
        return [(row["partition"], row["sequence"]) for row in rows]


@pytest.fixture
def place_in_memory(memory: RecordInMemory) -> Place:
    return PlaceInMemory(memory)


@pytest.fixture
async def place_in_postgres(postgres: RecordInPostgres) -> AsyncIterator[Place]:
    await install(postgres.url, READ_MODELS)
    place = PlaceInPostgres(postgres)
    yield place
    for client in place.clients:
        await client.stop()


@pytest.fixture(params=["place_in_memory", pytest.param("place_in_postgres", marks=pytest.mark.integration)])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


def keys(partition: int) -> dict[FeedKey, int | None]:
    return {FeedKey(name, 1, partition): None for name in NAMES}


def advance(feed: Feed, events: Sequence[RecordedEvent], next_offset: int | None = None) -> Advance:
    last = events[-1] if events else feed
    return Advance(feed.key, feed.epoch, last.sequence, last.hash, next_offset, events)


async def recorded(place: Place, partition: int, *amounts: int, owner: str = "ada") -> list[RecordedEvent]:
    """So many entries; a 0 is a rejection."""
    hand = Hand(place.writer())
    claim = await hand.claim(partition)
    for amount in amounts:
        if amount:
            hand.entry(partition, amount, owner_id=owner)
        else:
            hand.rejection(partition, owner_id=owner)
    assert isinstance(await hand.write(), Appended)
    return list(await hand.store.read_events(partition, claim.sequence, len(amounts)))


async def test_every_installed_read_model_has_a_first_version(place: Place) -> None:
    assert await place.client().active_versions() == dict.fromkeys(NAMES, 1)


async def test_a_new_feed_begins_before_the_first_event(place: Place) -> None:
    feeds = await place.client().claim(keys(3), "one")
    assert {feed.key for feed in feeds} == keys(3).keys()
    assert {(feed.epoch, feed.sequence, feed.hash, feed.next_offset) for feed in feeds} == {(1, 0, GENESIS.hex(), 0)}


async def test_rows_and_checkpoints_are_committed_together(place: Place) -> None:
    events = await recorded(place, 3, 10, 0, -4)
    client = place.client()
    feeds = await client.claim(keys(3), "one")
    assert await client.advance([advance(feed, events, 17) for feed in feeds]) == frozenset()
    assert await place.balances() == {("ada", "credits"): (6, 2)}
    assert await place.lines() == [(3, 1), (3, 2), (3, 3)]
    for feed in feeds:
        found = await place.checkpoint(feed.key)
        assert (found["sequence"], found["hash"], found["next_offset"]) == (3, events[-1].hash, 17)


async def test_a_claim_fences_every_older_holder(place: Place) -> None:
    events = await recorded(place, 3, 10)
    old, new = place.client(), place.client()
    stale = await old.claim(keys(3), "old")
    fresh = await new.claim(keys(3), "new")
    assert {feed.epoch for feed in fresh} == {2}
    assert await old.advance([advance(feed, events) for feed in stale]) == keys(3).keys()
    assert await place.lines() == []
    assert await new.advance([advance(feed, events) for feed in fresh]) == frozenset()
    assert await place.lines() == [(3, 1)]


async def test_one_fenced_feed_holds_back_the_whole_batch(place: Place) -> None:
    mine, others = await recorded(place, 1, 10), await recorded(place, 2, 20, owner="bob")
    client = place.client()
    held = [*await client.claim(keys(1), "one"), *await client.claim(keys(2), "one")]
    (taken, *_) = await place.client().claim({FeedKey("balances", 1, 2): None}, "two")
    batch = [advance(feed, mine if feed.key.partition == 1 else others) for feed in held]
    assert await client.advance(batch) == {taken.key}
    assert await place.balances() == {}
    assert await client.advance([one for one in batch if one.key != taken.key]) == frozenset()
    assert await place.balances() == {("ada", "credits"): (10, 1)}


async def test_a_feed_is_lost_to_a_later_claim_or_with_its_version(place: Place) -> None:
    client = place.client()
    held = {feed.key: feed.epoch for feed in await client.claim(keys(3), "one")}
    assert await client.lost(held) == frozenset()
    assert await client.lost({}) == frozenset()
    await place.client().claim({FeedKey("statements", 1, 3): None}, "two")
    gone = FeedKey("balances", 9, 3)
    assert await client.lost(held | {gone: 1}) == {FeedKey("statements", 1, 3), gone}


async def test_a_claim_on_condition_takes_only_what_nobody_has_claimed_since(place: Place) -> None:
    client = place.client()
    feeds = await client.claim(keys(3), "one")
    await place.client().claim({FeedKey("statements", 1, 3): None}, "two")
    again = await client.claim({feed.key: feed.epoch for feed in feeds}, "one")
    assert [(feed.key, feed.epoch) for feed in again] == [(FeedKey("balances", 1, 3), 2)]
    assert (await place.checkpoint(FeedKey("statements", 1, 3)))["holder"] == "two"


async def test_a_version_that_is_gone_cannot_be_claimed_nor_advanced(place: Place) -> None:
    client = place.client()
    assert await client.claim({FeedKey("balances", 7, 3): None}, "one") == []
    gone = Advance(FeedKey("balances", 7, 3), 1, 0, GENESIS.hex(), None, ())
    assert await client.advance([gone]) == {gone.key}


async def test_events_of_the_record_are_read_as_a_chain(place: Place) -> None:
    events = await recorded(place, 3, 1, 2, 0, 4, 5)
    client = place.client()
    assert await client.read_events(3, 0, 2) == events[:2]
    assert await client.read_events(3, 2, 100) == events[2:]
    assert await client.read_events(3, 5, 100) == []


async def test_marks_tell_where_the_record_ends_and_what_it_holds(place: Place) -> None:
    events = await recorded(place, 3, 1, 2)
    marks = await place.client().record_marks(3, [0, 2, 9])
    assert marks.head_sequence == 2
    assert marks.hashes == {2: events[1].hash}
    assert (await place.client().record_marks(4, ())).head_sequence == 0


async def test_why_a_feed_halts_is_kept_until_the_next_claim(place: Place) -> None:
    client = place.client()
    key = FeedKey("balances", 1, 3)
    (feed,) = await client.claim({key: None}, "one")
    await client.note_halted(key, feed.epoch - 1, "an older holder's reason")
    assert (await place.checkpoint(key))["halted_because"] is None
    await client.note_halted(key, feed.epoch, "a reason")
    assert (await place.checkpoint(key))["halted_because"] == "a reason"
    await client.claim({key: None}, "one")
    assert (await place.checkpoint(key))["halted_because"] is None


async def test_what_is_released_has_no_holder_unless_it_was_claimed_since(place: Place) -> None:
    client = place.client()
    feeds = await client.claim(keys(3), "one")
    await place.client().claim({FeedKey("statements", 1, 3): None}, "two")
    await client.release({feed.key: feed.epoch for feed in feeds})
    assert (await place.checkpoint(FeedKey("balances", 1, 3)))["holder"] is None
    assert (await place.checkpoint(FeedKey("statements", 1, 3)))["holder"] == "two"


@pytest.mark.integration
@pytest.mark.parametrize("read_model", NAMES)
async def test_rows_that_something_else_wrote_are_noticed_and_nothing_is_committed(
    place_in_postgres: PlaceInPostgres, read_model: str
) -> None:
    events = await recorded(place_in_postgres, 3, 10, 5)
    client = place_in_postgres.client()
    feeds = await client.claim(keys(3), "one")
    assert await client.advance([advance(feed, events[:1]) for feed in feeds]) == frozenset()
    connection = place_in_postgres.record.connection
    await connection.execute("UPDATE projections.balances_v1 SET account_version = 9")
    await connection.execute("UPDATE projections.statements_v1 SET sequence = 2")
    (feed,) = [feed for feed in feeds if feed.key.read_model == read_model]
    with pytest.raises(ReadModelMismatchError, match=f"ledger rebuild {read_model}"):
        await client.advance([advance(feed, events[1:])])
    assert (await place_in_postgres.checkpoint(feed.key))["sequence"] == 1


@pytest.mark.integration
async def test_the_projector_can_write_neither_the_record_nor_which_version_is_active(
    place_in_postgres: PlaceInPostgres,
) -> None:
    connection = place_in_postgres.record.connection
    await connection.execute("SET ROLE ledger_projector")
    for statement in (
        "DELETE FROM ledger.event",
        "UPDATE ledger.account SET balance = 1",
        "UPDATE projections.read_model SET active_version = 2",
        "DELETE FROM projections.checkpoint",
        "CREATE TABLE projections.mine ()",
        "DROP TABLE projections.balances_v1",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.execute("SET ROLE ledger_reader")
    assert await connection.fetchval("SELECT count(*) FROM projections.balances_v1") == 0
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute("DELETE FROM projections.balances_v1")


@pytest.mark.integration
async def test_a_connection_that_was_lost_while_idle_is_not_replaced_without_a_word(
    place_in_postgres: PlaceInPostgres,
) -> None:
    """A crash of the server takes back what the projector committed last, so memory must be thrown away."""
    client = place_in_postgres.client()
    await client.claim(keys(3), "one")
    pid = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'test'"
    connection = place_in_postgres.record.connection
    assert await connection.fetchval(f"SELECT pg_terminate_backend(({pid}), 5000)")
    with pytest.raises(StoreUnavailableError):
        await client.active_versions()
    assert await client.active_versions()


async def test_what_the_record_does_not_hold_is_not_taken(place: Place) -> None:
    """It was published, so it was recorded: the record was restored from an older copy."""
    events = await recorded(place, 3, 10, 5)
    client = place.client()
    (feed,) = await client.claim({FeedKey("balances", 1, 3): None}, "one")
    beyond = msgspec.structs.replace(events[-1], sequence=events[-1].sequence + 1, prev_hash=events[-1].hash)
    with pytest.raises(ReadModelMismatchError, match="the record ends at 3:2"):
        await client.advance([advance(feed, [*events, beyond])])
    other = msgspec.structs.replace(events[-1], hash="f" * 64)
    with pytest.raises(ReadModelMismatchError, match="another event at 3:2"):
        await client.advance([advance(feed, [events[0], other])])
    assert (await place.checkpoint(feed.key))["sequence"] == 0
    assert await client.advance([advance(feed, events)]) == frozenset()


@pytest.mark.integration
async def test_a_database_of_another_ledger_is_not_written_to(place_in_postgres: PlaceInPostgres) -> None:
    """It may answer under the same address one day, with feeds of the same names."""
    events = await recorded(place_in_postgres, 3, 10)
    client = place_in_postgres.client()
    feeds = await client.claim(keys(3), "one")
    connection = place_in_postgres.record.connection
    await connection.execute("UPDATE ledger.ledger_identity SET ledger_id = gen_random_uuid()")
    await client.stop()
    with pytest.raises(ForeignLedgerError):
        await client.advance([advance(feed, events) for feed in feeds])
    assert await place_in_postgres.balances() == {}
