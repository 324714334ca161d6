"""What a manifest says of a file, made from the events in it: by whoever writes it, and by whoever checks it."""

from collections import Counter
from datetime import datetime

from service.archiving.lines import ArchivedEvent
from service.archiving.manifest import ArchivedFile, place_of


class Description:
    """Sees the events of one file in their order."""

    def __init__(self, partition: int, prev_hash: str) -> None:
        """`prev_hash`: of the event before the first one."""
        self.events = 0
        self.last_sequence = 0
        self.last_hash = prev_hash
        self._partition = partition
        self._first_prev_hash = prev_hash
        self._first: ArchivedEvent | None = None
        self._last_occurred_at: datetime | None = None
        self._accepted = 0
        self._amounts: Counter[str] = Counter()

    def add(self, event: ArchivedEvent) -> None:
        """The next event."""
        self._first = self._first or event
        self.events += 1
        self._accepted += event.reason is None
        self._amounts[event.credit_type] += event.amount
        self.last_sequence, self.last_hash = event.sequence, event.hash
        self._last_occurred_at = event.occurred_at

    def of_file(self, length: int, sha256: str) -> ArchivedFile:
        """Of the file that holds them, with its length in bytes and its digest."""
        assert self._first is not None, "a file holds at least one event"
        assert self._last_occurred_at is not None, "it was set with the first"
        return ArchivedFile(
            path=place_of(self._partition, self._first.sequence, self.last_sequence),
            partition=self._partition,
            first_sequence=self._first.sequence,
            last_sequence=self.last_sequence,
            first_prev_hash=self._first_prev_hash,
            last_hash=self.last_hash,
            events=self.events,
            accepted=self._accepted,
            amounts=dict(sorted(self._amounts.items())),
            first_occurred_at=self._first.occurred_at,
            last_occurred_at=self._last_occurred_at,
            bytes=length,
            sha256=sha256,
        )
