"""Token buckets, and what one request may take of the service."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request

from producers.doors import RequestLimits, is_loopback
from producers.doors import request_limits as limits
from producers.doors.loopback import is_reached_from_outside, network_of
from producers.doors.token_bucket import BucketPerAddress, TokenBucket


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(8, 20, clock)
    assert [bucket.take(1) for _ in range(20)] == [0.0] * 20
    assert bucket.take(1) == 0.125
    clock.now += 0.125
    assert bucket.take(1) == 0.0
    assert bucket.take(1) > 0
    clock.now += 3600
    assert bucket.take(20) == 0.0
    assert bucket.take(1) > 0


def test_what_does_not_fit_takes_nothing() -> None:
    clock = Clock()
    bucket = TokenBucket(10, 20, clock)
    bucket.take(15)
    assert bucket.take(10) == pytest.approx(0.5)
    assert bucket.take(5) == 0.0


def test_more_than_a_full_bucket_never_fits_and_the_wait_is_that_for_a_full_one() -> None:
    bucket = TokenBucket(10, 20, Clock())
    bucket.take(20)
    assert bucket.take(21) == pytest.approx(2.0)


def test_addresses_are_counted_apart_and_the_oldest_is_forgotten() -> None:
    buckets = BucketPerAddress(1, 2, 3, Clock())
    assert [buckets.take("10.0.0.1") for _ in range(2)] == [0.0, 0.0]
    assert buckets.take("10.0.0.1") > 0
    assert buckets.take("10.0.0.2") == 0.0
    for last in range(3, 9):
        buckets.take(f"10.0.0.{last}")
    assert len(buckets) == 3
    assert buckets.take("10.0.0.1") == 0.0


def test_one_subscriber_is_one_address() -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:1")
    assert network_of("2001:db8::1") != network_of("2001:db8:0:1::1")
    assert network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("testclient") == "testclient"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LocalHost", "::ffff:127.0.0.1"]
)
def test_loopback(host: str) -> None:
    assert is_loopback(host)
    assert not is_reached_from_outside(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.1", "2001:db8::1", "::ffff:10.0.0.1"])
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)
    assert is_reached_from_outside(host)


@pytest.mark.parametrize("host", ["example.com", "localhost.example.com", "", "127.0.0.1.example.com"])
def test_a_name_is_not_loopback(host: str) -> None:
    assert not is_loopback(host)


UNDER_WAY_MAX = 3
BODY_BYTES_MAX = 1_000


class Slow:
    """A service whose writes wait until they are let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.waiting = 0
        self.app = FastAPI()
        router = APIRouter(max_body_size=BODY_BYTES_MAX)

        @router.post("/wait")
        async def wait(request: Request) -> str:
            self.waiting += 1
            await self.go.wait()
            return "done"

        @router.post("/read")
        async def read(body: list[int]) -> int:
            return len(body)

        @router.get("/health")
        async def health() -> str:
            return "fine"

        self.app.include_router(router)
        self.app.add_middleware(RequestLimits, under_way_max=UNDER_WAY_MAX, body_wait_s=0.05)


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def http(slow: Slow) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(slow.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def test_more_than_may_be_under_way_is_503_and_places_are_given_back(http: httpx.AsyncClient, slow: Slow) -> None:
    waiting = [asyncio.create_task(http.post("/wait")) for _ in range(UNDER_WAY_MAX)]
    async with asyncio.timeout(10):
        while slow.waiting < UNDER_WAY_MAX:  # noqa: ASYNC110  (the requests turn on the same loop)
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        refused = await http.post("/wait")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.json() == {"detail": "3 requests are under way already; nothing was sent, try again"}
    assert (await http.get("/health")).status_code == 200
    slow.go.set()
    assert [(await one).status_code for one in waiting] == [200] * UNDER_WAY_MAX
    assert (await http.post("/wait")).status_code == 200


async def test_a_url_beyond_the_limit_is_414(http: httpx.AsyncClient) -> None:
    for path in ("/" + "a" * limits.URL_BYTES_MAX, "/health?x=" + "a" * limits.URL_BYTES_MAX):
        answer = await http.get(path)
        assert answer.status_code == 414
        assert answer.json()["detail"]


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_body_beyond_the_limit_is_413_in_json(http: httpx.AsyncClient, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"1," * 50

    content = chunks() if chunked else b"1," * 5_000
    answer = await http.post("/read", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (413, {"detail": "The body is too large; nothing was sent"})


async def test_a_body_that_does_not_arrive_is_408(http: httpx.AsyncClient) -> None:
    never = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield b"[1,"
        await never.wait()

    async with asyncio.timeout(10):
        answer = await http.post("/read", content=stalling(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 408
    assert "did not arrive within" in answer.json()["detail"]


async def test_bodies_under_way_have_a_limit_together(http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODIES_BYTES_MAX", 100)
    body = b"[" + b"1," * 100 + b"1]"
    answer = await http.post("/read", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    for _ in range(20):  # what was held is given back
        assert (await http.post("/read", json=[1] * 20)).status_code == 200
