"""Balances and statements, over HTTP."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode
from urllib.request import urlopen

from producers import Outcome

ANSWER_WITHIN_S = 10


def balances_after(ledger_url: str, outcome: Outcome) -> dict[str, int]:
    """All balances of the owner, this outcome included."""
    owner_id = quote(outcome.event.owner_id, safe="")
    balances: dict[str, int] = ask(f"{ledger_url}/balance/{owner_id}", min_position=str(outcome.position))["balances"]
    return balances


def statement(ledger_url: str, owner_id: str) -> Iterator[dict[str, Any]]:
    """Every entry of the owner, newest first, page by page."""
    route = f"{ledger_url}/ledger/{quote(owner_id, safe='')}/entries"
    page = ask(route, limit="100")
    yield from page["entries"]
    while page["next_before"] is not None:
        page = ask(route, limit="100", before=page["next_before"])
        yield from page["entries"]


def ask(url: str, **query: str) -> dict[str, Any]:
    """The answer. A 503 is raised as HTTPError: the read model did not get there in time; ask again."""
    with urlopen(f"{url}?{urlencode(query)}", timeout=ANSWER_WITHIN_S) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
