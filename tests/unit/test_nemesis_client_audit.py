"""The audit of client histories notices what was lost, doubled, changed, reordered or made up."""

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.auditor.rows import Quarantined, Row, Sent
from tests.nemesis.client_audit import ClientAudit, audit_clients
from tests.nemesis.history import Answered, Call, Failed, HistoryWriter, Placed, Poison, read_history

NOW = datetime(2026, 1, 31, tzinfo=UTC)
APP = "shop"


@dataclass
class Story:
    """Three commands of one client: published, answered, refused; and one poisonous message."""

    path: Path
    sent: list[Sent] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    quarantine: list[Quarantined] = field(default_factory=list)

    def audit(self) -> ClientAudit:
        return audit_clients([read_history(self.path)], self.sent, self.rows, self.quarantine)


def body(number: int) -> dict[str, object]:
    return {"operation": "CREDIT_ADD", "owner_id": "ada", "nonce": f"n{number}", "amount": 5, "issued_at": str(NOW)}


def row(number: int, offset: int) -> Row:
    return Row(
        partition=0,
        sequence=number,
        account_version=number,
        amount=5,
        balance_after=5 * number,
        issued_at=NOW,
        occurred_at=NOW,
        command_offset=offset,
        command_id=UUID(int=number),
        app=APP,
        operation="CREDIT_ADD",
        owner_id="ada",
        credit_type="credits",
        nonce=f"n{number}",
        reason=None,
        detail=None,
        metadata=None,
        metadata_digest=None,
        hash=bytes([number]) * 32,
    )


def record(number: int, offset: int) -> Sent:
    value = json.dumps(body(number) | {"command_id": str(UUID(int=number))}).encode()
    return Sent(APP, 0, offset, b"ada", value)


def answered(number: int) -> Answered:
    return Answered(f"0:{number}", (bytes([number]) * 32).hex(), None, 5 * number, False)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    path = tmp_path / "client.jsonl"
    with HistoryWriter(path, "client", 1) as history:

        def call(number: int, waits: bool) -> Call:
            return history.call(APP, 0, str(UUID(int=number)), waits, body(number))

        history.answer(call(1, False), Placed(0))
        history.answer(call(2, False), Placed(1))
        history.answer(call(3, True), answered(3))
        history.answer(call(3, True), answered(3))
        history.answer(call(4, True), Failed("NotPublished", None))
        call(5, True)  # killed while it waited
        history.poison(APP, 0, b"ada", b"{", None)
        history.poison(APP, 0, b"ada", b"{", 3)
    return Story(
        path,
        [record(1, 0), record(2, 1), record(3, 2), Sent(APP, 0, 3, b"ada", b"{"), record(3, 4)],
        [row(1, 0), row(2, 1), row(3, 2)],
        [Quarantined(APP, 0, 3, b"ada", b"{")],
    )


def test_a_story_that_is_whole(story: Story) -> None:
    found = story.audit()
    assert found.violations == []
    assert (found.lost, found.doubled) == (0, 0)
    assert (found.sent, found.resent, found.acknowledged, found.answered) == (5, 1, 3, 1)
    assert (found.refused, found.in_doubt, found.poison) == (1, 1, 1)


def test_a_lost_event(story: Story) -> None:
    del story.rows[1]
    found = story.audit()
    assert found.lost == 1
    assert "was acknowledged and has no event" in found.violations[0]


def test_a_lost_answered_event(story: Story) -> None:
    del story.rows[2]
    assert story.audit().lost == 1


def test_a_lost_quarantine_row(story: Story) -> None:
    story.quarantine.clear()
    assert story.audit().lost == 1


def test_a_lost_command(story: Story) -> None:
    del story.sent[1]
    assert any("does not lie at 1" in violation for violation in story.audit().violations)


def test_a_doubled_event(story: Story) -> None:
    story.rows.append(story.rows[0]._replace(sequence=4))
    found = story.audit()
    assert found.doubled == 2, "one event too many, and its nonce accepted once too often"


def test_a_nonce_that_was_accepted_twice(story: Story) -> None:
    story.rows[1] = story.rows[1]._replace(nonce="n1")
    assert story.audit().doubled == 1


@pytest.mark.parametrize(
    "change", [{"balance_after": 16}, {"reason": "INSUFFICIENT_CREDITS"}, {"hash": bytes(32)}, {"sequence": 7}]
)
def test_an_answer_that_is_not_what_is_recorded(story: Story, change: dict[str, object]) -> None:
    story.rows[2] = story.rows[2]._replace(**change)  # type: ignore[arg-type]
    assert any("invariant 8" in violation for violation in story.audit().violations)


def test_an_answer_that_changed(story: Story) -> None:
    with HistoryWriter(story.path, "client", 2) as history:
        call = history.call(APP, 0, str(UUID(int=3)), True, body(3))
        history.answer(call, replace(answered(3), balance=20, replayed=True))
    assert any("invariant 8" in violation for violation in story.audit().violations)


def test_publications_out_of_order(story: Story) -> None:
    with HistoryWriter(story.path, "client", 2) as history:
        calls = [history.call(APP, 0, str(UUID(int=number)), False, body(number)) for number in (6, 7)]
        history.answer(calls[0], Placed(6))
        history.answer(calls[1], Placed(5))
    story.sent += [record(7, 5), record(6, 6)]
    story.rows += [row(7, 5)._replace(sequence=4), row(6, 6)._replace(sequence=5)]
    assert any("invariant 4" in violation for violation in story.audit().violations)


def test_a_command_that_nobody_sent(story: Story) -> None:
    story.sent.append(record(9, 5))
    story.rows.append(row(9, 5)._replace(sequence=4))
    violations = story.audit().violations
    assert any("nobody sent what lies at" in violation for violation in violations)
    assert any("nobody sent" in violation and "decides" in violation for violation in violations)


def test_a_command_that_is_not_as_it_was_sent(story: Story) -> None:
    story.sent[1] = story.sent[1]._replace(value=(story.sent[1].value or b"").replace(b'"amount": 5', b'"amount": 6'))
    assert any("is not what was sent" in violation for violation in story.audit().violations)


def test_a_publication_that_lies_there_twice(story: Story) -> None:
    story.sent.append(record(1, 5))
    assert any("lies 2 times in Kafka, sent 1" in violation for violation in story.audit().violations)


def test_a_command_that_was_not_sent_and_yet_decided(story: Story) -> None:
    story.sent.append(record(4, 5))
    story.rows.append(row(4, 5))
    violations = story.audit().violations
    assert any("was not sent, its client was told, and has an event" in violation for violation in violations)
    assert any("lies in Kafka, though it was not sent" in violation for violation in violations)


def test_a_history_reads_one_partition_and_passes_over_half_a_line(story: Story, tmp_path: Path) -> None:
    with HistoryWriter(story.path, "client", 2) as history:
        history.call(APP, 11, str(UUID(int=8)), True, body(8))
        history.poison(APP, 1, None, None, 5)
    with story.path.open("ab") as file:
        file.write(b'[1,"call",3,1,"shop"')
    assert [told.call.command_id for told in read_history(story.path, 11).calls] == [str(UUID(int=8))]
    assert read_history(story.path, 1).poison == [Poison(APP, 1, None, None, 5)]
    assert len(read_history(story.path).calls) == 7
