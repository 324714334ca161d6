"""What a call to the ledger returns: that a command is in Kafka, and what became of it."""

from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from ledger.domain.event import RecordedEvent
from ledger.domain.position import Position


class Published(NamedTuple):
    """A command that all in-sync replicas have. `offset` is its place in the app's command topic."""

    command_id: UUID
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """An accepted command: the entry that was posted.

    `replayed` says that the command had been decided before this call: the answer is that first decision.
    """

    event: RecordedEvent
    replayed: bool = False

    @property
    def balance(self) -> int:
        """The account's balance right after this entry."""
        return self.event.balance_after

    @property
    def position(self) -> Position:
        """Where the entry lies; a read that names it waits until it shows the entry."""
        return self.event.position
