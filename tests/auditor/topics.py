"""What lies in Kafka against what lies in the record: each command's one event, its publication, its answers."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from tests.auditor.commands import Command, read
from tests.auditor.rows import Quarantined, Row, Sent
from tests.auditor.violation import ViolationError, expect

Place = tuple[str, int, int]
"""App, partition, offset."""

_TOLD: Final = (
    # What an event repeats of its row, by the same name in both.
    "partition",
    "sequence",
    "app",
    "operation",
    "owner_id",
    "credit_type",
    "account_version",
    "amount",
    "balance_after",
    "nonce",
)


class PublishedAudit:
    """Invariants 8 and 10, as publications come. `rows` are those that are committed: RecordAudit.rows."""

    def __init__(self, rows: Mapping[int, list[Row]]) -> None:
        self._rows = rows
        self._seen: dict[int, int] = defaultdict(int)
        self._answers: dict[tuple[str, str, str], bytes] = {}

    def published(self, partition: int, key: bytes | None, value: bytes | None) -> dict[str, Any]:
        """A record arrived in `ledger.events`; its body."""
        body = self._recorded(10, partition, key, value)
        seen, sequence = self._seen[partition], body["sequence"]
        expect(sequence <= seen + 1, 10, f"{partition}:{sequence} is published after {seen}")
        self._seen[partition] = max(seen, sequence)
        self._answered(body, value)
        return body

    def replayed(self, partition: int, key: bytes | None, value: bytes | None) -> dict[str, Any]:
        """A record arrived in `ledger.replays`; its body."""
        body = self._recorded(8, partition, key, value)
        self._answered(body, value)
        return body

    def all_published(self) -> None:
        """Every committed event is published by now."""
        for partition, rows in self._rows.items():
            expect(self._seen[partition] == len(rows), 10, f"{partition}: {self._seen[partition]} of {len(rows)} are")

    def _recorded(self, number: int, partition: int, key: bytes | None, value: bytes | None) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(value or b"null")
        rows = self._rows.get(partition, [])
        where = f"{body['partition']}:{body['sequence']}"
        expect(
            body["partition"] == partition and 1 <= body["sequence"] <= len(rows), number, f"{where} is not recorded"
        )
        row = rows[body["sequence"] - 1]
        before = rows[row.sequence - 2].hash if row.sequence > 1 else bytes(32)
        same = all(body[name] == getattr(row, name) for name in _TOLD) and key == row.owner_id.encode()
        hashes = (body["prev_hash"], body["hash"]) == (before.hex(), row.hash.hex())
        reason = (body.get("reason"), body.get("detail")) == (row.reason, row.detail)
        kind = body["type"] == ("entry_posted" if row.reason is None else "command_rejected")
        if not (same and hashes and reason and kind and UUID(body["command_id"]) == row.command_id):
            raise ViolationError(f"invariant {number}: {where} is told as {body}, recorded as {row}")
        return body

    def _answered(self, body: dict[str, Any], value: bytes | None) -> None:
        command = (body["app"], body["owner_id"], body["command_id"])
        first = self._answers.setdefault(command, value or b"")
        if first != value:
            raise ViolationError(f"invariant 8: the answer to {command} was {first!r} and is {value!r}")


class InputAudit:
    """Invariants 1, 3 and 4: every readable command has one event, at its first copy; the rest is in quarantine."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._copies: dict[tuple[str, str, UUID], list[Place]] = defaultdict(list)
        self._read: dict[Place, Command | None] = {}
        self._sent: dict[Place, tuple[bytes | None, bytes | None]] = {}
        self._removed: set[Place] = set()
        self._quarantined: set[Place] = set()

    def sent(self, app: str, partition: int, offset: int, key: bytes | None, value: bytes | None) -> Command | None:
        """A record of a command topic; what can be read in it."""
        place = (app, partition, offset)
        command = read(key, value, partition, self._partitions)
        self._read[place] = command
        self._sent[place] = (key, value)
        if command is not None:
            self._copies[app, command.owner_id, command.command_id].append(place)
        return command

    def removed(self, app: str, partition: int, offset: int) -> None:
        """Retention took this record before anybody consumed it: perhaps nobody ever decides it."""
        self._removed.add((app, partition, offset))

    def command(self, app: str, partition: int, offset: int) -> Command | None:
        """What can be read at a place; None also where nothing was sent."""
        return self._read.get((app, partition, offset))

    def decided(self, row: Row) -> Command:
        """This row is committed: there is a command at its offset, and no copy before it that had to be decided."""
        place = (row.app, row.partition, row.command_offset)
        command = self._read.get(place)
        expect(command is not None, 3, f"{row.place} decides {place}, where no command lies")
        assert command is not None
        for copy in self._copies[row.app, row.owner_id, row.command_id]:
            if copy == place:
                break
            expect(copy in self._removed, 4, f"{row.place} decides {place} and not the first copy at {copy}")
        else:
            expect(False, 4, f"{row.place} decides {place}, where another command lies: {command}")
        return command

    def quarantined(self, row: Quarantined) -> None:
        """A row of the quarantine is committed."""
        place = (row.app, row.partition, row.command_offset)
        expect(place in self._sent, 3, f"{place} is in quarantine, and was never sent")
        expect(self._read[place] is None, 3, f"{place} is in quarantine, and can be read as {self._read[place]}")
        expect(self._sent[place] == (row.key, row.value), 3, f"{place} is in quarantine, but not byte for byte")
        expect(place not in self._quarantined, 3, f"{place} is in quarantine a second time")
        self._quarantined.add(place)

    def undecided(self, decided: Mapping[tuple[str, str, UUID], Row]) -> list[str]:
        """What has come and has neither an event nor a row in quarantine, though it must: empty when all is done."""
        missing = [
            f"{copies[0]} has no event"
            for command, copies in self._copies.items()
            if command not in decided and not all(copy in self._removed for copy in copies)
        ]
        unread = (place for place, command in self._read.items() if command is None)
        missing += [
            f"{place} is not in quarantine"
            for place in unread
            if place not in self._quarantined and place not in self._removed
        ]
        return missing


def audit_input(
    sent: Iterable[Sent], rows: Iterable[Row], quarantine: Iterable[Quarantined], partitions: int
) -> InputAudit:
    """All that was sent against all that came of it. Raises ViolationError."""
    audit = InputAudit(partitions)
    for one in sorted(sent, key=lambda one: (one.app, one.partition, one.offset)):
        audit.sent(*one[:5])
        if not one.must_be_decided:
            audit.removed(one.app, one.partition, one.offset)
    by_command = {}
    for row in rows:
        audit.decided(row)
        by_command[row.app, row.owner_id, row.command_id] = row
    for record in quarantine:
        audit.quarantined(record)
    missing = audit.undecided(by_command)
    expect(not missing, 3, "; ".join(missing[:10]))
    return audit


def audit_published(
    events: Mapping[int, Iterable[tuple[bytes | None, bytes | None]]],
    replays: Mapping[int, Iterable[tuple[bytes | None, bytes | None]]],
    rows: Mapping[int, list[Row]],
) -> None:
    """Both topics (key and value by partition, in offset order) against the rows (by partition, in sequence order).

    Raises:
        ViolationError: of invariant 8 or 10.
    """
    audit = PublishedAudit(rows)
    for partition, records in events.items():
        for key, value in records:
            audit.published(partition, key, value)
    for partition, records in replays.items():
        for key, value in records:
            audit.replayed(partition, key, value)
    audit.all_published()
