"""Checks an export's events as they pass: the chain of every partition, from its first event to its head."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from ledger.domain.chain import GENESIS
from ledger.domain.position import Position
from ledger.messages.partitioning import partition_of
from service.archiving.lines import ArchivedEvent, what_is_wrong
from service.moving.export_files import ExportedHead, ExportError, Manifest, read_lines


class ExportedChain:
    """Sees every event of an export in its order."""

    def __init__(self, partitions: int) -> None:
        self._heads = [(0, GENESIS.hex())] * partitions
        self._last: tuple[datetime, int] | None = None

    def see(self, event: ArchivedEvent) -> None:
        """Check the next event. Raises ExportError."""
        partition = event.partition
        if not 0 <= partition < len(self._heads):
            raise ExportError(f"{where(event)} lies on a partition that the ledger does not have")
        sequence, hash_before = self._heads[partition]
        wrong = what_is_wrong(event, partition, sequence + 1, hash_before)
        if wrong is not None:
            raise ExportError(f"{partition}:{sequence + 1}: {wrong}")
        home = partition_of(event.owner_id.encode(), len(self._heads))
        if home != partition:
            raise ExportError(f"{where(event)} is of {event.owner_id!r}, who belongs on partition {home}")
        here = (event.occurred_at, partition)
        if self._last is not None and here < self._last:
            raise ExportError(f"{where(event)} is not in the order in which the events happened")
        self._last = here
        self._heads[partition] = (event.sequence, event.hash)

    def finish(self, heads: Sequence[ExportedHead]) -> None:
        """After the last event: the partitions end where the heads say. Raises ExportError."""
        for head in heads:
            sequence, found = self._heads[head.partition]
            if sequence != head.sequence:
                raise ExportError(f"partition {head.partition} ends at {sequence}, its head is at {head.sequence}")
            if found != head.hash:
                raise ExportError(f"partition {head.partition} ends with hash {found}, its head says {head.hash}")


def where(event: ArchivedEvent) -> str:
    """The event's position in the export, as people name it."""
    return str(Position(event.partition, event.sequence))


def checked(events: Iterable[ArchivedEvent], manifest: Manifest) -> Iterator[ArchivedEvent]:
    """The same events, each checked before it is given; ends only where the heads are reached. Raises ExportError."""
    chain = ExportedChain(manifest.partitions)
    apps = frozenset(manifest.apps)
    for event in events:
        chain.see(event)
        if event.app not in apps:
            raise ExportError(f"{where(event)} is of {event.app!r}, which the manifest does not name")
        yield event
    chain.finish(manifest.heads)


def read_events(folder: Path, manifest: Manifest) -> Iterator[ArchivedEvent]:
    """All events of an export in the order in which they happened, checked. Raises ExportError."""
    lines = (event for file in manifest.event_files for event in read_lines(folder, file, ArchivedEvent))
    return checked(lines, manifest)
