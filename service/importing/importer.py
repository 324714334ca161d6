"""Publishes the rows of a file and collects their outcomes.

Order: of one owner only one row is on its way at a time; the next one goes when its outcome is known. More at once
would be faster for a file about few owners, but a publication that fails in doubt and is sent again could then be
decided after a later row of the same owner (which would be refused, or spend what was not there yet).
Rows of different owners go side by side, and Kafka gets them in batches.
"""

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from uuid import UUID

from ledger.domain.event import RecordedEvent
from ledger.messages.command_ids import derived_command_id
from producers import (
    CommandRejected,
    CommandRequest,
    InvalidCommand,
    KafkaUnavailable,
    LedgerClient,
    NotPublished,
    OutcomeUnknown,
)
from service.importing.leftovers import Leftovers
from service.importing.rows import Row

WINDOW_ROWS_MAX: Final = 2_000
"""Rows between the first one without an outcome and the last one that was read."""

OUTCOME_WAIT_S: Final = 30.0
ROW_PATIENCE_S: Final = 120.0
"""How long a row is tried while Kafka or the ledger is away; then the import gives up."""

RETRY_PAUSE_S: Final = 1.0
ROWS_BETWEEN_BREATHS: Final = 200
"""Rows after which other tasks get a turn, even when no row has to wait."""

HASHED_BYTES: Final = 1024 * 1024


class ImportStalledError(Exception):
    """A row got no outcome in time. Importing the same file again goes on safely: each row is decided once."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"line {line} got no outcome within {ROW_PATIENCE_S:g} s: {why}")
        self.line = line


@dataclass(slots=True)
class ImportReport:
    """What became of the rows so far."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """By reason."""
    unreadable: int = 0
    replayed: int = 0
    """Of the accepted and refused ones: decided before, by an earlier import of this file; nothing was added."""

    @property
    def rows(self) -> int:
        """All rows that have an outcome or cannot be read."""
        return self.accepted + self.refused.total() + self.unreadable


@dataclass(frozen=True, slots=True)
class _Decided:
    event: RecordedEvent
    replayed: bool


class _Unreadable(Exception):  # noqa: N818 - an outcome of a row like any other
    pass


@dataclass(slots=True)
class _Waiting:
    row: Row
    outcome: "asyncio.Future[_Decided]"


def digest_of(file: BinaryIO) -> tuple[str, int]:
    """The digest of a file and the number of its lines; leaves it at its beginning."""
    digest, lines = hashlib.sha256(), 0
    while block := file.read(HASHED_BYTES):
        digest.update(block)
        lines += block.count(b"\n")
    file.seek(0)
    return digest.hexdigest(), lines


def row_command_id(digest: str, line: int) -> UUID:
    """The command id of one row of one file: importing the file again requests nothing new."""
    return derived_command_id(digest, str(line))


class Importer:
    """One import."""

    def __init__(
        self,
        client: LedgerClient,
        digest: str,
        unreadable: Leftovers,
        refused: Leftovers,
        progress: Callable[[int, ImportReport], None],
    ) -> None:
        """
        Args:
            client: open, as the app to which the rows belong.
            digest: of the file.
            unreadable: takes the rows that cannot be read.
            refused: takes the rows that the ledger refused.
            progress: takes the line up to which everything is decided, and the report so far.
        """
        self.report = ImportReport()
        self._client = client
        self._digest = digest
        self._unreadable = unreadable
        self._refused = refused
        self._progress = progress
        self._by_owner: dict[str, deque[_Waiting]] = {}
        self._chains: set[asyncio.Task[None]] = set()

    async def run(self, rows: Iterable[Row]) -> ImportReport:
        """Import the rows. Outcomes are reported in the order of the file.

        Raises:
            ImportStalledError: a row got no outcome; no later row of its owner was sent.
            producers.LedgerError: the client cannot go on.
        """
        window: deque[_Waiting] = deque()
        try:
            for count, row in enumerate(rows):
                window.append(self._begin(row))
                if count % ROWS_BETWEEN_BREATHS == 0:
                    await asyncio.sleep(0)
                while window and (window[0].outcome.done() or len(window) >= WINDOW_ROWS_MAX):
                    await self._finish(window.popleft())
            while window:
                await self._finish(window.popleft())
        finally:
            for chain in self._chains:
                chain.cancel()
            if self._chains:
                await asyncio.wait(self._chains)
        return self.report

    def _begin(self, row: Row) -> _Waiting:
        waiting = _Waiting(row, asyncio.get_running_loop().create_future())
        # After the first row without an outcome nobody asks for the others'; that is no forgotten error.
        waiting.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
        if row.request is None:
            waiting.outcome.set_exception(_Unreadable(row.unreadable))
            return waiting
        owner_id = row.request.owner_id
        line_up = self._by_owner.get(owner_id)
        if line_up is None:
            self._by_owner[owner_id] = deque([waiting])
            chain = asyncio.create_task(self._send_in_order(owner_id))
            self._chains.add(chain)
            chain.add_done_callback(self._chains.discard)
        else:
            line_up.append(waiting)
        return waiting

    async def _send_in_order(self, owner_id: str) -> None:
        line_up = self._by_owner[owner_id]
        while line_up:
            waiting = line_up[0]
            assert waiting.row.request is not None
            try:
                waiting.outcome.set_result(await self._decided(waiting.row.line, waiting.row.request))
            except InvalidCommand as error:
                waiting.outcome.set_exception(_Unreadable(str(error)))
            except Exception as error:  # whoever waits for the outcome raises it; later rows are not sent
                waiting.outcome.set_exception(error)
                return
            line_up.popleft()
        del self._by_owner[owner_id]

    async def _decided(self, line: int, request: CommandRequest) -> _Decided:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ROW_PATIENCE_S
        while True:
            try:
                outcome = await self._client.submit(
                    request.operation,
                    request.owner_id,
                    request.nonce,
                    request.amount,
                    metadata=request.metadata,
                    command_id=row_command_id(self._digest, line),
                    issued_at=request.issued_at,
                    wait_s=OUTCOME_WAIT_S,
                )
            except CommandRejected as rejected:
                return _Decided(rejected.event, rejected.replayed)
            except (NotPublished, OutcomeUnknown, KafkaUnavailable) as error:
                # With the same id: whatever became of the first copy is the answer to this one.
                if loop.time() > deadline:
                    raise ImportStalledError(line, str(error)) from error
                await asyncio.sleep(RETRY_PAUSE_S)
            else:
                return _Decided(outcome.event, outcome.replayed)

    async def _finish(self, waiting: _Waiting) -> None:
        row = waiting.row
        try:
            decided = await waiting.outcome
        except _Unreadable as unreadable:
            self.report.unreadable += 1
            self._unreadable.add(row.line, row.fields, "UNREADABLE", str(unreadable))
        else:
            self.report.replayed += decided.replayed
            event = decided.event
            if event.reason is None:
                self.report.accepted += 1
            else:
                self.report.refused[event.reason] += 1
                self._refused.add(row.line, row.fields, event.reason, event.detail or "")
        self._progress(row.line, self.report)
