"""Every client's history against what lies in Kafka and in the record, one partition at a time.

Written from DESIGN.md: it shares no rule or codec with the product.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from tests.auditor.rows import Quarantined, Row, Sent
from tests.nemesis.history import Answered, Call, Failed, History, Placed, Poison, Told

NOT_SENT: Final = frozenset({"NotPublished", "ClientClosed", "KafkaUnavailable"})
"""What a client is told when nothing was sent: then nothing may ever come of that call."""

CommandKey = tuple[str, str, UUID]
"""App, owner, command id."""


@dataclass(slots=True)
class ClientAudit:
    """What was found; empty lists and zeros where there is nothing to find."""

    violations: list[str] = field(default_factory=list)
    lost: int = 0
    """Commands whose publication was acknowledged, and which have no event (or, unreadable, no quarantine row)."""
    doubled: int = 0
    """Events too many for one command, and accepted entries too many for one nonce."""
    sent: int = 0
    """Commands that clients sent, each counted once however often it was sent again."""
    resent: int = 0
    """Copies beyond the first."""
    acknowledged: int = 0
    answered: int = 0
    in_doubt: int = 0
    """Commands of which no client was ever told that they were published, and which may or may not be."""
    refused: int = 0
    """Commands that clients were told were not sent, each time."""
    poison: int = 0

    def add(self, other: "ClientAudit") -> None:
        """Take another partition's figures in."""
        self.violations += other.violations
        for name in ("lost", "doubled", "sent", "resent", "acknowledged", "answered", "in_doubt", "refused", "poison"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


def audit_clients(
    histories: Sequence[History], sent: Sequence[Sent], rows: Sequence[Row], quarantine: Sequence[Quarantined]
) -> ClientAudit:
    """All of one partition: the clients' calls and poison, the command topics, the events, the quarantine."""
    audit = _Audit(sent, rows, quarantine)
    for history in histories:
        audit.order_of_publications(history)
    by_command: dict[CommandKey, list[Told]] = defaultdict(list)
    for history in histories:
        for told in history.calls:
            call = told.call
            by_command[call.app, call.body["owner_id"], UUID(call.command_id)].append(told)
    for key, calls in by_command.items():
        audit.command(key, calls)
    poison = [one for history in histories for one in history.poison]
    audit.poisoned(poison)
    audit.nothing_that_nobody_sent(by_command, poison)
    audit.nothing_twice()
    audit.found.sent = len(by_command)
    return audit.found


class _Audit:
    def __init__(self, sent: Iterable[Sent], rows: Iterable[Row], quarantine: Iterable[Quarantined]) -> None:
        self.found = ClientAudit()
        self._records: dict[tuple[str, int], Sent] = {(one.app, one.offset): one for one in sent}
        self._rows: dict[CommandKey, list[Row]] = defaultdict(list)
        for row in rows:
            self._rows[row.app, row.owner_id, row.command_id].append(row)
        self._quarantine = {(one.app, one.command_offset) for one in quarantine}

    def order_of_publications(self, history: History) -> None:
        """Invariant 4: of `publish` calls made one after another the later has the higher offset."""
        last: dict[tuple[str, int], int] = {}
        numbers: dict[tuple[str, int], int] = {}
        for told in history.calls:
            call, answer = told.call, told.answer
            if call.waits or not isinstance(answer, Placed):
                continue
            run = (call.app, call.run)
            self._expect(numbers.get(run, 0) < call.number, f"{_name(call)} is noted out of order")
            self._expect(
                last.get(run, -1) < answer.offset,
                f"invariant 4: {_name(call)} lies at {answer.offset}, an earlier call at {last.get(run)}",
            )
            last[run], numbers[run] = answer.offset, call.number

    def command(self, key: CommandKey, calls: Sequence[Told]) -> None:
        """Everything that clients did and were told about one command."""
        rows = self._rows.get(key, [])
        answers = [told.answer for told in calls]
        places = [
            answer.offset for answer in answers if isinstance(answer, (Placed, Failed)) and answer.offset is not None
        ]
        answered = [told for told in calls if isinstance(told.answer, Answered)]
        acknowledged = bool(places or answered)
        self.found.acknowledged += acknowledged
        self.found.answered += bool(answered)
        if acknowledged and not rows:
            self.found.lost += 1
            self._say(f"invariant 1: {_name(calls[0].call)} was acknowledged and has no event")
        for told in answered:
            self._answer(told, rows)
        published = [told.answer.offset for told in calls if isinstance(told.answer, Placed)]
        self._expect(
            len(set(published)) == len(published),
            f"{_name(calls[0].call)}: two publications have one place {published}",
        )
        for offset in places:
            one = self._records.get((key[0], offset))
            self._expect(
                one is not None and _command_id(one) == key[2], f"{_name(calls[0].call)} does not lie at {offset}"
            )
        if all(isinstance(answer, Failed) and answer.error in NOT_SENT for answer in answers):
            self.found.refused += 1
            self._expect(not rows, f"{_name(calls[0].call)} was not sent, its client was told, and has an event")
        elif not acknowledged:
            self.found.in_doubt += 1

    def _answer(self, told: Told, rows: Sequence[Row]) -> None:
        """Invariant 8: the answer is what is recorded, and so it is the same each time."""
        answer = told.answer
        assert isinstance(answer, Answered)
        recorded = [(row.place, row.hash.hex(), row.reason, row.balance_after) for row in rows]
        was_told = (answer.position, answer.hash, answer.reason, answer.balance)
        self._expect(
            was_told in recorded, f"invariant 8: {_name(told.call)} was answered {was_told}, recorded is {recorded}"
        )

    def poisoned(self, poison: Sequence[Poison]) -> None:
        """Invariant 3: what cannot be read has one row in quarantine."""
        for one in poison:
            if one.offset is None:
                continue
            self.found.poison += 1
            record = self._records.get((one.app, one.offset))
            self._expect(
                record is not None and (record.key, record.value) == (one.key, one.value),
                f"poison does not lie at {one.app}:{one.partition}:{one.offset}",
            )
            if (one.app, one.offset) not in self._quarantine:
                self.found.lost += 1
                self._say(f"invariant 3: {one.app}:{one.partition}:{one.offset} is not in quarantine")

    def nothing_that_nobody_sent(self, calls: Mapping[CommandKey, Sequence[Told]], poison: Sequence[Poison]) -> None:
        """Each record of a command topic was sent by somebody, as it is, and not more often; so each event was."""
        intended = {(one.app, one.key, one.value) for one in poison}
        copies: Counter[CommandKey] = Counter()
        for record in self._records.values():
            where = f"{record.app}:{record.partition}:{record.offset}"
            if (record.app, record.key, record.value) in intended:
                continue
            body = _body(record)
            key = (record.app, str(body.get("owner_id")), _command_id(record) or UUID(int=0))
            told = calls.get(key)
            if told is None:
                self._say(f"invariant 1: nobody sent what lies at {where}: {record.value!r}")
                continue
            copies[key] += 1
            self._expect(_same(told[0].call, body), f"invariant 1: {where} is not what was sent: {body}")
        for key, count in copies.items():
            self.found.resent += count - 1
            if all(not one.call.waits for one in calls[key]):
                could = sum(not (isinstance(one.answer, Failed) and one.answer.error in NOT_SENT) for one in calls[key])
                self._expect(count <= could, f"{_name(calls[key][0].call)} lies {count} times in Kafka, sent {could}")
        for key, told in calls.items():
            if all(isinstance(one.answer, Failed) and one.answer.error in NOT_SENT for one in told):
                self._expect(key not in copies, f"{_name(told[0].call)} lies in Kafka, though it was not sent")
        for key, rows in self._rows.items():
            self._expect(key in copies, f"invariant 1: nobody sent {key}, which {rows[0].place} decides")

    def nothing_twice(self) -> None:
        """Invariant 7, as a number."""
        nonces: Counter[tuple[str, str, str]] = Counter()
        for key, rows in self._rows.items():
            nonces.update((row.app, row.owner_id, row.nonce) for row in rows if row.reason is None)
            if len(rows) > 1:
                self.found.doubled += len(rows) - 1
                self._say(f"invariant 7: {key} has {len(rows)} events: {[row.place for row in rows]}")
        for nonce, count in nonces.items():
            if count > 1:
                self.found.doubled += count - 1
                self._say(f"invariant 7: {count} accepted entries of {nonce}")

    def _expect(self, truth: bool, what: str) -> None:
        if not truth:
            self._say(what)

    def _say(self, what: str) -> None:
        self.found.violations.append(what)


def _name(call: Call) -> str:
    return f"{call.client} run {call.run} call {call.number} ({call.app}:{call.partition} {call.command_id})"


def _body(record: Sent) -> dict[str, object]:
    try:
        body = json.loads(record.value or b"")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _command_id(record: Sent) -> UUID | None:
    try:
        return UUID(str(_body(record).get("command_id")))
    except ValueError:
        return None


def _same(call: Call, body: Mapping[str, object]) -> bool:
    times = all(_time(call.body.get(name)) == _time(body.get(name)) for name in ("issued_at", "not_after"))
    plain = all(call.body.get(name) == body.get(name) for name in ("operation", "owner_id", "nonce", "amount"))
    return times and plain


def _time(text: object) -> datetime | None:
    return None if text is None else datetime.fromisoformat(str(text))
