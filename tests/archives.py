"""Archives made without a ledger, and the hands that change them."""

import gzip
import hashlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid5

import msgspec

from ledger.domain.chain import GENESIS, event_hash, metadata_digest
from service.archiving.lines import ArchivedEvent, decode_line, encode_line
from service.archiving.manifest import Manifest, read_manifest, write_manifest
from service.archiving.writing import file_of_events

LEDGER_ID = UUID("0192f0c1-2b6e-7c7c-9d4e-000000000001")
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def chained(event: ArchivedEvent, prev_hash: str) -> ArchivedEvent:
    """The event with hashes that are right behind this one: what a forger who knows how would write."""
    hashed = event_hash(
        bytes.fromhex(prev_hash),
        partition=event.partition,
        sequence=event.sequence,
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
        detail=event.detail,
        metadata_digest=None if event.metadata_digest is None else bytes.fromhex(event.metadata_digest),
        command_offset=event.command_offset,
    )
    return msgspec.structs.replace(event, prev_hash=prev_hash, hash=hashed.hex())


def events_of(partition: int, count: int, ledger_id: UUID = LEDGER_ID) -> list[ArchivedEvent]:
    """The first events of a partition: entries of ten owners, every fifth one refused, some with metadata."""
    events: list[ArchivedEvent] = []
    prev_hash = GENESIS.hex()
    for sequence in range(1, count + 1):
        refused = sequence % 5 == 0
        metadata = None if sequence % 3 else '{"note":\n "two lines, ü and \\u2028"}'
        event = ArchivedEvent(
            type="command_rejected" if refused else "entry_posted",
            partition=partition,
            sequence=sequence,
            app="example-app",
            command_id=uuid5(ledger_id, f"{partition}:{sequence}"),
            operation="CREDIT_ADD",
            owner_id=f"owner-{sequence % 10}",
            credit_type="credits",
            account_version=sequence,
            amount=0 if refused else 10,
            balance_after=10 * sequence,
            nonce=f"2026-01-{sequence % 28 + 1:02}",
            issued_at=BEGAN + timedelta(seconds=sequence - 1),
            occurred_at=BEGAN + timedelta(seconds=sequence),
            reason="INSUFFICIENT_CREDITS" if refused else None,
            detail="0 available, 10 needed" if refused else None,
            metadata=metadata,
            metadata_digest=None if metadata is None else metadata_digest(metadata).hex(),
            command_offset=sequence,
            prev_hash=prev_hash,
            hash="",
        )
        events.append(chained(event, prev_hash))
        prev_hash = events[-1].hash
    return events


def write_archive(folder: Path, files: Sequence[Sequence[ArchivedEvent]], ledger_id: UUID = LEDGER_ID) -> Manifest:
    """An archive of these files, each a run of events of one partition."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(ledger_id=ledger_id, partitions=4)
    for events in files:
        with file_of_events(folder, events[0].partition, events[0].prev_hash) as file:
            file.add(events)
            manifest = manifest.with_file(file.finish())
    write_manifest(folder, manifest)
    return manifest


def lines_of(path: Path) -> list[ArchivedEvent]:
    """The events in a file."""
    return [decode_line(line) for line in gzip.decompress(path.read_bytes()).splitlines(keepends=True)]


def change_lines(folder: Path, index: int, change: Callable[[list[ArchivedEvent]], list[ArchivedEvent]]) -> None:
    """Write a file anew with other events, and mend its digest and length in the manifest, as a forger would."""
    manifest = read_manifest(folder)
    assert manifest is not None
    listed = manifest.files[index]
    path = folder / listed.path
    path.write_bytes(gzip.compress(b"".join(map(encode_line, change(lines_of(path))))))
    change_listing(folder, index, bytes=path.stat().st_size, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def change_listing(folder: Path, index: int, **changes: object) -> None:
    """Change what the manifest says of one file."""
    manifest = read_manifest(folder)
    assert manifest is not None
    files = list(manifest.files)
    files[index] = msgspec.structs.replace(files[index], **changes)
    write_manifest(folder, msgspec.structs.replace(manifest, files=tuple(files)))
