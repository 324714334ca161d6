"""The audit at the end of a run: clients, Kafka, the record and the read models against each other."""

import gc
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.auditor.commands import BASE_OPERATIONS, EXAMPLE_APP_OPERATIONS, App, Rule, partition_of
from tests.auditor.read_models import audit_balances, audit_statements
from tests.auditor.record import RecordAudit
from tests.auditor.rows import Quarantined, Row, Sent
from tests.auditor.topics import audit_input, audit_published
from tests.auditor.violation import ViolationError
from tests.nemesis.client_audit import ClientAudit, audit_clients
from tests.nemesis.history import read_history
from tests.nemesis.kept import Kept
from tests.nemesis.operations import NEW_OPERATION, SHOP

VIOLATIONS_KEPT_MAX: Final = 200
APPS: Final[Mapping[str, App]] = {
    "example-app": App(EXAMPLE_APP_OPERATIONS),
    SHOP: App(
        {**BASE_OPERATIONS, "PURCHASE": Rule(-10, "-", settable=False), NEW_OPERATION: Rule(2, "+", settable=False)}
    ),
}
"""What the apps declare, in the auditor's own words. The shop's new operation is only used once it is deployed."""

ACCEPTED: Final = "accepted"


@dataclass(slots=True)
class FullAudit:
    """What an audit found."""

    clients: ClientAudit = field(default_factory=ClientAudit)
    violations: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    """Events by what they say: accepted, or why not."""
    new_operation: int = 0
    """Events of the operation that the rolling restart brought."""
    quarantined: int = 0
    published_again: int = 0
    replays: int = 0

    @property
    def holds(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.violations and not self.clients.violations and not self.clients.lost + self.clients.doubled


async def audit_everything(
    kept: Kept, partitions: int, histories: Collection[Path], progress: Callable[[int], None]
) -> FullAudit:
    """Partition by partition, so that what is held in memory is a part of the whole; `progress` is told how many."""
    found = FullAudit()
    shown: dict[int, dict[tuple[str, str], tuple[int, int]]] = {partition: {} for partition in range(partitions)}
    for account, balance in (await kept.balances()).items():
        shown[partition_of(account[0].encode(), partitions)][account] = balance
    gc.disable()  # millions of rows are held at a time, and nothing in them goes round in circles
    try:
        for partition in range(partitions):
            await _audit_partition(kept, partition, partitions, histories, shown[partition], found)
            progress(partition + 1)
    finally:
        gc.enable()
    decided, accepted = found.outcomes.total(), found.outcomes[ACCEPTED]
    if (keys := await kept.keys()) != (decided, accepted):
        found.violations.append(f"invariant 7: {keys} keys for {decided} events, {accepted} of them accepted")
    del found.violations[VIOLATIONS_KEPT_MAX:]
    del found.clients.violations[VIOLATIONS_KEPT_MAX:]
    return found


async def _audit_partition(
    kept: Kept,
    partition: int,
    partitions: int,
    histories: Collection[Path],
    balances: Mapping[tuple[str, str], tuple[int, int]],
    found: FullAudit,
) -> None:
    rows = await kept.rows(partition)
    quarantine = await kept.quarantined(partition)
    topics = await kept.topics_of(APPS, partition)
    sent, published, replayed = topics.sent, topics.published, topics.replayed
    found.outcomes.update(row.reason or ACCEPTED for row in rows)
    found.new_operation += sum(row.operation == NEW_OPERATION for row in rows)
    found.quarantined += len(quarantine)
    found.published_again += len(published) - len(rows)
    found.replays += len(replayed)
    stories = [read_history(path, partition) for path in histories]
    found.clients.add(audit_clients(stories, sent, rows, quarantine))
    _note(found, lambda: _decisions(rows, sent, quarantine, partitions))
    _note(found, lambda: audit_published({partition: published}, {partition: replayed}, {partition: rows}))
    at = {name: await kept.checkpoints(name) for name in ("balances", "statements")}
    statements = await kept.statements(partition)
    _note(found, lambda: audit_balances(rows, at["balances"], balances))
    _note(found, lambda: audit_statements(rows, at["statements"], statements))


def _decisions(rows: Sequence[Row], sent: Sequence[Sent], quarantine: Sequence[Quarantined], partitions: int) -> None:
    """Every readable message has its one event, at its first copy, and each event is the right decision."""
    read = audit_input(sent, rows, quarantine, partitions)
    record = RecordAudit(APPS)
    for row in rows:
        record.committed(row, read.command(row.app, row.partition, row.command_offset))


def _note(found: FullAudit, check: Callable[[], object]) -> None:
    try:
        check()
    except ViolationError as error:
        found.violations.append(str(error))
    except (KeyError, TypeError, ValueError) as error:  # what lies there is none of what an auditor can read
        found.violations.append(f"unreadable for the auditor: {error!r}")
