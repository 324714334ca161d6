"""The door: every request but those to open routes needs a valid key with the right scope, once there is a key."""

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from fastapi import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from ledger.api_keys.secret import PREFIX, read_key
from ledger.api_keys.store import DoorKey
from ledger.api_keys.store import Scope as KeyScope
from producers.doors.caller import Allowance, Caller, note_caller
from producers.doors.key_ring import KeyRing, KeysUnknownError
from producers.doors.loopback import is_reached_from_outside
from producers.doors.refusals import refuse
from producers.doors.token_bucket import BucketPerAddress, TokenBucket

OPEN_ROUTES: Final = frozenset(
    {"/", "/health", "/health/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
)
"""Routes that need no key. /health/ready tells strangers no more than whether all is well."""

READING_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

FAILURES_PER_S: Final = 1
"""Requests without a valid key that one address is told the reason of; more of them only hear 429."""

FAILURES_AT_ONCE: Final = 30
ADDRESSES_REMEMBERED_MAX: Final = 10_000
KEYS_COUNTED_MAX: Final = 10_000
"""Keys whose use is counted; as many as can be usable."""

RETRY_AFTER_S: Final = 1

_BEARER: Final = b"bearer "
_CHALLENGE: Final = 'Bearer realm="ledger"'
_HOW: Final = f"send `Authorization: Bearer {PREFIX}...` or `X-API-Key: {PREFIX}...`; `ledger keys create` makes one"

_log: Final = logging.getLogger(__name__)

KeysWanted = Literal["auto", "required", "open-until-first"]


@dataclass(frozen=True, slots=True)
class DoorPolicy:
    """Who must show a key, and how much one key may do."""

    keys: KeysWanted
    """`auto`: until the first key is made, whoever reaches the service on loopback needs none. `open-until-first`: the
    same on any address. `required`: always a key, also before the first one is made."""

    rate_per_s: float
    """Requests and commands that one key may make a second, at each HTTP service."""

    burst: int
    """So many at once after a pause."""

    @property
    def open_to(self) -> str:
        """Who needs no key before the first one is made, in words."""
        return {"auto": "whoever is on this machine", "open-until-first": "whoever reaches it"}.get(self.keys, "nobody")


class Doorkeeper:
    """ASGI middleware."""

    def __init__(
        self, app: ASGIApp, *, ring: KeyRing, policy: DoorPolicy, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`now` tells seconds on a clock that never goes back."""
        self._app = app
        self._ring = ring
        self._policy = policy
        self._now = now
        self._failures = BucketPerAddress(FAILURES_PER_S, FAILURES_AT_ONCE, ADDRESSES_REMEMBERED_MAX, now)
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let in, or answer."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # there are no others here; uvicorn answers a websocket that nobody accepts with 403
        try:
            await self._admit(scope)
        except HTTPException as refusal:
            await refuse(scope, receive, send, refusal.status_code, refusal.detail, refusal.headers)
            return
        await self._app(scope, receive, send)

    async def _admit(self, scope: Scope) -> None:
        """Note who calls. Raises HTTPException: the answer to who may not."""
        shown = _shown_key(scope)
        if scope["path"] in OPEN_ROUTES:
            self._admit_to_open_route(scope, shown)
            return
        try:
            if not await self._wants_key(scope):
                return
            key = await self._key(scope, shown)
        except KeysUnknownError as error:
            raise HTTPException(
                503, "API keys cannot be checked: Postgres is away", {"Retry-After": str(RETRY_AFTER_S)}
            ) from error
        needed = KeyScope.READ if scope["method"] in READING_METHODS else KeyScope.WRITE
        if needed not in key.scopes:
            raise HTTPException(403, f"The API key {key.id} lacks the scope `{needed}`")
        caller = self._caller(key)
        caller.allowance.charge(1)
        note_caller(scope, caller)

    def _admit_to_open_route(self, scope: Scope, shown: str | None) -> None:
        # A wrong key is no reason to refuse what needs none. And nobody is asked on the way: these routes answer
        # whatever else is away.
        presented = None if shown is None else read_key(shown)
        key = None if presented is None else self._ring.known(presented)
        if key is not None:
            note_caller(scope, self._caller(key))
        elif self._policy.keys == "required" or self._ring.asks is not False or self._is_outside(scope):
            note_caller(scope, None)

    async def _wants_key(self, scope: Scope) -> bool:
        if self._policy.keys == "required" or await self._ring.asks_for_keys():
            return True
        if self._is_outside(scope):
            detail = "Without API keys this service answers on loopback only: make one with `ledger keys create`"
            raise HTTPException(401, detail, {"WWW-Authenticate": _CHALLENGE})
        return False

    def _is_outside(self, scope: Scope) -> bool:
        # `ledger run http` does not even start on such an address; but another server may run the app.
        server = scope.get("server")
        return self._policy.keys == "auto" and server is not None and is_reached_from_outside(server[0])

    async def _key(self, scope: Scope, shown: str | None) -> DoorKey:
        presented = None if shown is None else read_key(shown)
        key = None if presented is None else self._ring.known(presented)
        if key is not None:
            return key
        if presented is not None and self._ring.trouble is not None:
            raise KeysUnknownError(self._ring.trouble)
        self._count_failure(scope)
        if shown is None:
            raise HTTPException(401, f"An API key is needed: {_HOW}", {"WWW-Authenticate": _CHALLENGE})
        key = None if presented is None else await self._ring.find(presented)
        if key is None:
            # One text for all, so that nobody learns which ids exist.
            raise HTTPException(
                401,
                "The API key is not valid: nobody has it, or it was revoked, or it has expired",
                {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
            )
        return key

    def _count_failure(self, scope: Scope) -> None:
        client = scope.get("client")
        host = client[0] if client is not None else ""
        wait_s = self._failures.take(host)
        if wait_s:
            retry_after_s = max(1, math.ceil(wait_s))
            raise HTTPException(
                429,
                f"Too many requests without a valid API key from {host}; try again in {retry_after_s} s",
                {"Retry-After": str(retry_after_s)},
            )
        _log.info("a request without a known API key from %s", host)

    def _caller(self, key: DoorKey) -> Caller:
        allowance = self._allowances.get(key.id)
        if allowance is None:
            policy = self._policy
            bucket = TokenBucket(policy.rate_per_s, policy.burst, self._now)
            allowance = self._allowances[key.id] = Allowance(bucket, policy.rate_per_s, policy.burst)
            if len(self._allowances) > KEYS_COUNTED_MAX:
                self._allowances.popitem(last=False)
        return Caller(key.app, key.id, key.scopes, allowance)


def _shown_key(scope: Scope) -> str | None:
    """What stands where a key belongs; a text that is no key where there are several."""
    shown: set[bytes] = set()
    for name, value in scope["headers"]:
        if name == b"authorization":
            shown.add(value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else value)
        elif name == b"x-api-key":
            shown.add(value)
    if not shown:
        return None
    return shown.pop().decode("latin-1") if len(shown) == 1 else ""
