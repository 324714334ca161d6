"""The order and the patience of an import, with a client that fails as Kafka can make it fail."""

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest

import service.importing.importer as importer_module
from ledger.domain.event import ENTRY_POSTED, RecordedEvent
from producers import (
    CommandRequest,
    InvalidCommand,
    LedgerClient,
    NotPublished,
    Outcome,
    OutcomeUnknown,
    PublishInDoubt,
)
from service.importing.importer import WINDOW_ROWS_MAX, Importer, ImportStalledError
from service.importing.leftovers import Leftovers
from service.importing.rows import Row

COLUMNS = ("owner_id", "nonce", "operation", "amount", "occurred_on")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importer_module, "RETRY_PAUSE_S", 0.0)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For rows that never get an outcome: the others must not depend on how fast this machine is."""
    monkeypatch.setattr(importer_module, "ROW_PATIENCE_S", 0.2)


class Client:
    """Decides each command id once, as late and with as many failures before as the test wants."""

    def __init__(
        self,
        failure: Callable[[str, UUID], Exception | None] = lambda nonce, command_id: None,
        turns_max: int = 3,
    ) -> None:
        self.decided: list[tuple[str, str]] = []
        self._ids: dict[tuple[str, str], UUID] = {}
        self.under_way_max = 0
        self._under_way = 0
        self._failure = failure
        self._turns_max = turns_max
        self._random = random.Random(3)

    async def submit(self, operation: str, owner_id: str, nonce: str, amount: int, **more: Any) -> Outcome:
        assert isinstance(more["command_id"], UUID), "without an id every try would be a new request"
        first_id = self._ids.setdefault((owner_id, nonce), more["command_id"])
        assert more["command_id"] == first_id, "another request for the same row"
        self._under_way += 1
        self.under_way_max = max(self.under_way_max, self._under_way)
        try:
            for _ in range(self._random.randint(0, self._turns_max)):
                await asyncio.sleep(0)
            error = self._failure(nonce, more["command_id"])
            if not isinstance(error, NotPublished | InvalidCommand) and (owner_id, nonce) not in self.decided:
                self.decided.append((owner_id, nonce))
            if error is not None:
                raise error
        finally:
            self._under_way -= 1
        now = datetime.now(UTC)
        event = RecordedEvent(
            ENTRY_POSTED,
            0,
            1,
            "shop",
            more["command_id"],
            operation,
            owner_id,
            "credits",
            1,
            amount,
            amount,
            nonce,
            now,
            now,
            "00" * 32,
            "00" * 32,
        )
        return Outcome(event)


def rows(count: int, owners: int) -> Iterator[Row]:
    for number in range(count):
        request = CommandRequest("CREDIT_ADD", f"owner-{number % owners}", f"n-{number:05}", 1)
        yield Row(number + 2, ("o", "n", "CREDIT_ADD", "1", "1993-01-05"), request, None, 0)


async def imported(client: Client, count: int, owners: int, folder: Path) -> Importer:
    with Leftovers(folder / "u.csv", COLUMNS) as unreadable, Leftovers(folder / "r.csv", COLUMNS) as refused:
        importer = Importer(cast(LedgerClient, client), "digest", unreadable, refused, lambda line, report: None)
        await importer.run(rows(count, owners))
    return importer


def in_order(client: Client, owners: int) -> bool:
    lines: dict[str, list[str]] = {}
    for owner, nonce in client.decided:
        lines.setdefault(owner, []).append(nonce)
    return len(lines) == owners and all(line == sorted(line) for line in lines.values())


async def test_an_owner_s_rows_are_decided_in_order_whatever_fails_on_the_way(tmp_path: Path) -> None:
    chance = random.Random(5)

    def failure(nonce: str, command_id: UUID) -> Exception | None:
        kind = chance.randrange(5)
        if kind == 0:
            return NotPublished(command_id, "Kafka is away")
        if kind == 1:
            return PublishInDoubt(command_id, "not acknowledged")
        return OutcomeUnknown(command_id, "slow") if kind == 2 else None

    client = Client(failure)
    importer = await imported(client, 1_000, 7, tmp_path)
    assert importer.report.accepted == 1_000
    assert in_order(client, 7)


async def test_owners_go_side_by_side_and_the_window_is_bounded(tmp_path: Path) -> None:
    client = Client()
    importer = await imported(client, 3 * WINDOW_ROWS_MAX, 3 * WINDOW_ROWS_MAX, tmp_path)
    assert importer.report.accepted == 3 * WINDOW_ROWS_MAX
    assert 100 < client.under_way_max <= WINDOW_ROWS_MAX


@pytest.mark.usefixtures("impatient")
async def test_a_row_without_an_outcome_ends_the_import_and_no_later_row_of_its_owner_is_sent(tmp_path: Path) -> None:
    def failure(nonce: str, command_id: UUID) -> Exception | None:
        return NotPublished(command_id, "Kafka is away") if nonce == "n-00004" else None

    client = Client(failure, turns_max=0)  # whatever is sent after that row is decided at once
    with pytest.raises(ImportStalledError, match="line 6"):
        await imported(client, 100, 2, tmp_path)
    assert [nonce for owner, nonce in client.decided if owner == "owner-0"] == ["n-00000", "n-00002"]


async def test_a_row_that_the_client_refuses_to_send_is_unreadable(tmp_path: Path) -> None:
    def failure(nonce: str, command_id: UUID) -> Exception | None:
        return InvalidCommand("nonce: too long") if nonce == "n-00001" else None

    importer = await imported(Client(failure), 4, 1, tmp_path)
    assert (importer.report.accepted, importer.report.unreadable) == (3, 1)
    assert "3,UNREADABLE,nonce: too long," in (tmp_path / "u.csv").read_text()
