"""Checks an export's events as they pass: the chain of every partition, from its first event to its head."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from ledger.domain.chain import GENESIS, event_hash, metadata_digest
from ledger.messages.partitioning import partition_of
from service.moving.export_files import ExportedEvent, ExportedHead, ExportError, Manifest, read_lines


class ExportedChain:
    """Sees every event of an export in its order."""

    def __init__(self, partitions: int) -> None:
        self._heads = [(0, GENESIS)] * partitions
        self._last: tuple[datetime, int] | None = None

    def see(self, event: ExportedEvent) -> None:
        """Check the next event. Raises ExportError."""
        partition = event.partition
        if not 0 <= partition < len(self._heads):
            raise ExportError(f"{event.where} lies on a partition that the ledger does not have")
        sequence, hash_before = self._heads[partition]
        if event.sequence != sequence + 1:
            raise ExportError(f"{partition}:{sequence + 1} is missing; the next one is {event.where}")
        home = partition_of(event.owner_id.encode(), len(self._heads))
        if home != partition:
            raise ExportError(f"{event.where} is of {event.owner_id!r}, who belongs on partition {home}")
        here = (event.occurred_at, partition)
        if self._last is not None and here < self._last:
            raise ExportError(f"{event.where} is not in the order in which the events happened")
        self._last = here
        self._heads[partition] = (event.sequence, checked_hash(event, hash_before))

    def finish(self, heads: Sequence[ExportedHead]) -> None:
        """After the last event: the partitions end where the heads say. Raises ExportError."""
        for head in heads:
            sequence, found = self._heads[head.partition]
            if sequence != head.sequence:
                raise ExportError(f"partition {head.partition} ends at {sequence}, its head is at {head.sequence}")
            if found.hex() != head.hash:
                raise ExportError(f"partition {head.partition} ends with hash {found.hex()}, its head says {head.hash}")


def checked_hash(event: ExportedEvent, hash_before: bytes) -> bytes:
    """The event's hash, computed again from its fields. Raises ExportError: it is another one."""
    digest = None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest)
    if event.metadata_text is not None and metadata_digest(event.metadata_text) != digest:
        raise ExportError(f"the metadata of {event.where} do not have the digest that was recorded")
    found = hash_of(event, hash_before, event.partition, event.sequence, event.detail, event.command_offset)
    if found.hex() != event.hash:
        raise ExportError(
            f"{event.where}: its fields and the event before it give hash {found.hex()}, recorded is {event.hash}: "
            "one of the two was changed"
        )
    return found


def hash_of(
    event: ExportedEvent, hash_before: bytes, partition: int, sequence: int, detail: str | None, command_offset: int
) -> bytes:
    """The hash of the event as it is, or as it would be at another place."""
    return event_hash(
        hash_before,
        partition=partition,
        sequence=sequence,
        app=event.app,
        command_id=event.command_id,
        operation=event.operation,
        owner_id=event.owner_id,
        credit_type=event.credit_type,
        account_version=event.account_version,
        amount=event.amount,
        balance_after=event.balance_after,
        nonce=event.nonce,
        issued_at=event.issued_at,
        occurred_at=event.occurred_at,
        reason=event.reason,
        detail=detail,
        metadata_digest=None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest),
        command_offset=command_offset,
    )


def checked(events: Iterable[ExportedEvent], manifest: Manifest) -> Iterator[ExportedEvent]:
    """The same events, each checked before it is given; ends only where the heads are reached. Raises ExportError."""
    chain = ExportedChain(manifest.partitions)
    apps = frozenset(manifest.apps)
    for event in events:
        chain.see(event)
        if event.app not in apps:
            raise ExportError(f"{event.where} is of {event.app!r}, which the manifest does not name")
        yield event
    chain.finish(manifest.heads)


def read_events(folder: Path, manifest: Manifest) -> Iterator[ExportedEvent]:
    """All events of an export in the order in which they happened, checked. Raises ExportError."""
    lines = (event for file in manifest.event_files for event in read_lines(folder, file, ExportedEvent))
    return checked(lines, manifest)
