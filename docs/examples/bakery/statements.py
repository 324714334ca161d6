"""Balances and statements, over HTTP."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import httpx

from producers import Outcome


async def balances_after(http: httpx.AsyncClient, outcome: Outcome) -> dict[str, int]:
    """All balances of the owner, this outcome included."""
    answer = await http.get(
        f"/balance/{quote(outcome.event.owner_id, safe='')}", params={"min_position": str(outcome.position)}
    )
    answer.raise_for_status()  # 503: the read model did not get there in time; ask again after Retry-After
    balances: dict[str, int] = answer.json()["balances"]
    return balances


async def statement(http: httpx.AsyncClient, owner_id: str) -> AsyncIterator[dict[str, Any]]:
    """Every entry of the owner, newest first, page by page."""
    before: dict[str, str] = {}
    while True:
        answer = await http.get(f"/ledger/{quote(owner_id, safe='')}/entries", params={"limit": "100", **before})
        answer.raise_for_status()
        page = answer.json()
        for entry in page["entries"]:
            yield entry
        if page["next_before"] is None:
            return
        before = {"before": page["next_before"]}
