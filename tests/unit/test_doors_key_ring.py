"""The key ring: new keys at once, revoked ones within seconds, and no open door while the keys cannot be read."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from ledger.api_keys.secret import PresentedKey, new_key
from ledger.api_keys.store import DoorKeys
from producers.doors import key_ring
from producers.doors.key_ring import VALID_WITHOUT_POSTGRES_S, KeyRing, KeysUnknownError
from tests.door_keys import KeysInMemory, door_key, presented

TODAY = datetime(2026, 1, 31, 12, tzinfo=UTC)
LIMIT_S = 10


class HangingKeys(KeysInMemory):
    async def read(self) -> DoorKeys:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.today = TODAY


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "REREAD_AFTER_S", 0.0)


def ring_of(source: KeysInMemory, clock: Clock) -> KeyRing:
    return KeyRing(source, now=lambda: clock.now, today=lambda: clock.today)


async def test_a_key_that_was_made_a_moment_ago_opens(clock: Clock) -> None:
    source, key = KeysInMemory(), new_key()
    source.any_made = True
    ring = ring_of(source, clock)
    assert await ring.find(presented(key)) is None
    source.keys.append(door_key(key))
    assert ring.known(presented(key)) is None
    assert (await ring.find(presented(key))) == source.keys[0]
    assert ring.known(presented(key)) == source.keys[0]


async def test_the_id_alone_opens_nothing(clock: Clock) -> None:
    key = new_key()
    ring = ring_of(KeysInMemory(door_key(key)), clock)
    assert await ring.find(presented(key)) is not None
    assert await ring.find(PresentedKey(key[4:14], b"\0" * 32)) is None
    assert await ring.find(PresentedKey("0" * 10, b"\0" * 32)) is None  # the digest that stands in for none
    assert ring.known(PresentedKey("0" * 10, b"\0" * 32)) is None


async def test_a_revoked_key_opens_nothing_after_the_next_reading(clock: Clock) -> None:
    key = new_key()
    source = KeysInMemory(door_key(key))
    ring = ring_of(source, clock)
    assert await ring.find(presented(key)) is not None
    source.keys.clear()
    assert ring.known(presented(key)) is not None
    await ring.find(presented(new_key()))
    assert ring.known(presented(key)) is None


async def test_the_keys_are_read_again_without_being_asked(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "REFRESH_EVERY_S", 0.001)
    key = new_key()
    source = KeysInMemory(door_key(key))
    async with ring_of(source, clock) as ring, asyncio.timeout(LIMIT_S):
        while ring.known(presented(key)) is None:  # noqa: ASYNC110  (it turns by itself)
            await asyncio.sleep(0.001)
        source.keys.clear()
        while ring.known(presented(key)) is not None:  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0.001)
    assert source.used == [key[4:14]]


def test_two_rounds_of_reading_fit_into_the_promise() -> None:
    assert key_ring.REFRESH_EVERY_S + key_ring.READ_LIMIT_S < key_ring.REVOKED_WITHIN_S


async def test_an_expired_key_opens_nothing(clock: Clock) -> None:
    key = new_key()
    ring = ring_of(KeysInMemory(door_key(key, expires=TODAY + timedelta(seconds=1))), clock)
    assert await ring.find(presented(key)) is not None
    clock.today += timedelta(seconds=1)
    assert ring.known(presented(key)) is None
    assert await ring.find(presented(key)) is None


async def test_known_keys_open_for_a_while_when_postgres_is_away_and_then_nothing_does(clock: Clock) -> None:
    key = new_key()
    source = KeysInMemory(door_key(key))
    ring = ring_of(source, clock)
    assert await ring.find(presented(key)) is not None
    source.away = True
    clock.now += VALID_WITHOUT_POSTGRES_S
    assert ring.known(presented(key)) is not None
    with pytest.raises(KeysUnknownError, match="it is away"):
        await ring.find(presented(new_key()))
    clock.now += 0.1
    assert ring.known(presented(key)) is None
    with pytest.raises(KeysUnknownError):
        await ring.find(presented(key))
    source.away = False
    assert await ring.find(presented(key)) is not None


async def test_a_postgres_that_hangs_is_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_ring, "READ_LIMIT_S", 0.01)
    with pytest.raises(KeysUnknownError, match="did not answer"):
        await ring_of(HangingKeys(), clock).asks_for_keys()


async def test_whether_keys_are_asked_for_is_not_guessed(clock: Clock) -> None:
    source = KeysInMemory()
    source.away = True
    ring = ring_of(source, clock)
    assert ring.asks is None
    with pytest.raises(KeysUnknownError):
        await ring.asks_for_keys()
    source.away = False
    assert await ring.asks_for_keys() is False


async def test_who_empties_the_table_opens_no_door(clock: Clock) -> None:
    key = new_key()
    source = KeysInMemory(door_key(key))
    ring = ring_of(source, clock)
    assert await ring.asks_for_keys() is True
    source.keys.clear()
    source.any_made = False
    assert await ring.find(presented(key)) is None
    assert ring.asks is True


async def test_many_unknown_keys_at_once_are_one_reading(clock: Clock) -> None:
    source = KeysInMemory(door_key(new_key()))
    ring = ring_of(source, clock)
    async with asyncio.timeout(LIMIT_S):
        await asyncio.gather(*(ring.find(presented(new_key())) for _ in range(100)))
    assert source.reads == 1
