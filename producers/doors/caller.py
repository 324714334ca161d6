"""Who is calling, as the routes are told."""

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import HTTPException

from ledger.api_keys.store import Scope
from producers.doors.token_bucket import TokenBucket

_CALLER: Final = "ledger.caller"
_STRANGER: Final = "ledger.stranger"


class TooManyRequests(HTTPException):
    """429: the key has used up what it may do now."""

    def __init__(self, wait_s: float, rate_per_s: float, burst: int) -> None:
        """`wait_s`: so long until it may do this."""
        retry_after_s = max(1, math.ceil(wait_s))
        super().__init__(
            429,
            f"Too many requests: an API key may do {rate_per_s:g} a second, and {burst:,} at once after a pause "
            f"(each command or owner of a batch counts); nothing was done, try again in {retry_after_s} s",
            {"Retry-After": str(retry_after_s)},
        )


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much a key may do."""

    bucket: TokenBucket
    rate_per_s: float
    burst: int

    def charge(self, count: int) -> None:
        """Count what is about to be done. Raises TooManyRequests, and then nothing is counted."""
        wait_s = self.bucket.take(count)
        if wait_s:
            raise TooManyRequests(wait_s, self.rate_per_s, self.burst)


@dataclass(frozen=True, slots=True)
class Caller:
    """The holder of a valid key: what it writes is written as `app`, whatever the request says."""

    app: str
    key_id: str
    scopes: frozenset[Scope]
    allowance: Allowance


def caller_of(scope: Mapping[str, Any]) -> Caller | None:
    """The holder of the key of this request; None where no keys are asked for, and on routes that are open."""
    caller: Caller | None = scope.get(_CALLER)
    return caller


def charge(scope: Mapping[str, Any], count: int) -> None:
    """Count what this request does beyond itself towards what its key may do. Raises TooManyRequests."""
    caller = caller_of(scope)
    if caller is not None:
        caller.allowance.charge(count)


def is_stranger(scope: Mapping[str, Any]) -> bool:
    """Whether keys are asked for, and this caller has shown none: on an open route."""
    return bool(scope.get(_STRANGER, False))


def note_caller(scope: MutableMapping[str, Any], caller: Caller | None) -> None:
    """For the routes: this key's holder calls, or a stranger (None)."""
    scope[_CALLER] = caller
    scope[_STRANGER] = caller is None
