"""What the example app keeps of its own: content, and notices that credits run low.

In a table of its own, not in memory: the subscriber's group goes on where it stopped, so what memory forgot at a
restart would never come back, and its author has paid for it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ledger.domain.position import Position

NOTICES_LISTED_MAX = 100


class ContentStoreAwayError(Exception):
    """The store did not answer; nothing of the call was kept for certain."""


@dataclass(frozen=True, slots=True)
class Content:
    """A piece of content that everybody can see: its debit was posted at `position`."""

    content_id: str
    owner_id: str
    title: str
    body: str
    created_at: datetime
    position: str


@dataclass(frozen=True, slots=True)
class LowBalanceNotice:
    """An owner's balance fell below what one piece of content costs, by the event at `position`."""

    owner_id: str
    position: Position
    balance: int
    occurred_at: datetime


class ContentStore(Protocol):
    """Keeps content and notices. Every call may raise ContentStoreAwayError; every call can be made again safely."""

    async def keep_draft(self, content_id: str, owner_id: str, title: str, body: str) -> None:
        """Keep content that nobody can see yet; a second draft of the same id is dropped."""

    async def make_visible(self, content_id: str, owner_id: str, position: Position) -> None:
        """The debit was posted."""

    async def discard_draft(self, content_id: str, owner_id: str) -> None:
        """The debit was refused. Content that is visible stays."""

    async def find_visible(self, content_id: str) -> Content | None:
        """Content that everybody can see."""

    async def add_notice(self, notice: LowBalanceNotice) -> None:
        """Keep a notice, once per event."""

    async def list_notices(self, owner_id: str) -> list[LowBalanceNotice]:
        """The owner's newest notices, newest first."""
