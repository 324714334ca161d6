"""Token buckets: so many a second, and so many at once after a pause."""

from collections import OrderedDict
from collections.abc import Callable

from producers.doors.loopback import network_of


class TokenBucket:
    """Fills at `rate_per_s` up to `burst`; each thing takes tokens out."""

    __slots__ = ("_burst", "_filled_at", "_now", "_rate_per_s", "_tokens")

    def __init__(self, rate_per_s: float, burst: int, now: Callable[[], float]) -> None:
        """`now` tells seconds on a clock that never goes back. The bucket is full at first."""
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._now = now
        self._tokens = float(burst)
        self._filled_at = now()

    def take(self, count: int) -> float:
        """Take tokens out. 0.0: they were there. Otherwise nothing was taken, and so many seconds from now they will be
        there; never more than a full bucket can be waited for, so `count` beyond `burst` never fits."""
        now = self._now()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate_per_s)
        self._filled_at = now
        if count <= self._tokens:
            self._tokens -= count
            return 0.0
        return (min(count, self._burst) - self._tokens) / self._rate_per_s


class BucketPerAddress:
    """One bucket for each address that lately took something; the one that is longest ago is forgotten first."""

    def __init__(self, rate_per_s: float, burst: int, addresses_max: int, now: Callable[[], float]) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._addresses_max = addresses_max
        self._now = now
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, host: str) -> float:
        """Take one out of the address's bucket: see `TokenBucket.take`."""
        network = network_of(host)
        bucket = self._buckets.get(network)
        if bucket is None:
            bucket = self._buckets[network] = TokenBucket(self._rate_per_s, self._burst, self._now)
            if len(self._buckets) > self._addresses_max:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(network)
        return bucket.take(1)

    def __len__(self) -> int:
        """So many addresses are remembered."""
        return len(self._buckets)
