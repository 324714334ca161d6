"""Reads a CSV file of commands, one row at a time, so that no row can spoil the ones after it."""

import csv
import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import BinaryIO, Final

from producers import CommandRequest

REQUIRED_COLUMNS: Final = ("owner_id", "nonce", "operation", "amount", "occurred_on")
NOTE_COLUMN: Final = "note"
REPORT_COLUMNS: Final = ("line", "reason", "detail")
"""What the files of left-over rows have beside the original columns; ignored when such a file is imported."""

LINES_PER_ROW_MAX: Final = 100
"""Lines that one row may take, because of line breaks inside quotes. An unclosed quote swallows no more than that."""

LINE_BYTES_MAX: Final = 1024 * 1024
"""A longer line is no row of ours; of it only so much is kept."""

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class HeaderError(Exception):
    """The file's first line does not name the columns; nothing was read."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file. `line` is the number of the line on which it begins; the header is line 1."""

    line: int
    fields: tuple[str, ...]
    request: CommandRequest | None
    """The command, without an id; None when the row cannot be read."""
    unreadable: str | None
    """Why it cannot be read."""
    bytes_read: int
    """How much of the file was read up to the end of this row."""


class CsvRows:
    """The rows of one file, streaming. Bytes that are not UTF-8 are kept as they are (surrogateescape)."""

    def __init__(self, file: BinaryIO, name: str | Path) -> None:
        """Read the header.

        Raises:
            HeaderError: a column is missing or named twice.
        """
        self._lines = _Lines(file)
        header = self._lines.next()
        self.columns: Final = tuple(
            column.strip() for column in (_fields(header.removeprefix("\ufeff")) or () if header else ())
        )
        missing = [column for column in REQUIRED_COLUMNS if column not in self.columns]
        if missing:
            raise HeaderError(
                f"{name} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; its first line must name the "
                f"columns {', '.join((*REQUIRED_COLUMNS, NOTE_COLUMN))}"
            )
        if len(set(self.columns)) != len(self.columns):
            raise HeaderError(f"{name} names a column twice: {', '.join(self.columns)}")

    def __iter__(self) -> Iterator[Row]:
        while (text := self._lines.next()) is not None:
            line = self._lines.number
            if text.strip():
                yield self._row(line, text)

    def _row(self, line: int, text: str) -> Row:
        if self._lines.too_long:
            why = f"the line is longer than {LINE_BYTES_MAX} bytes; what is behind them was left out here"
            return Row(line, (text.rstrip("\r\n"),), None, why, self._lines.bytes_read)
        fields = self._whole_row(text)
        if fields is None:
            return Row(line, (text.rstrip("\r\n"),), None, "its quotes do not fit together", self._lines.bytes_read)
        request, why_not = None, f"it has {len(fields)} fields instead of {len(self.columns)}"
        if len(fields) == len(self.columns):
            try:
                request = _request(dict(zip(self.columns, fields, strict=True)))
            except ValueError as error:
                why_not = str(error)
        return Row(line, fields, request, None if request else why_not, self._lines.bytes_read)

    def _whole_row(self, first: str) -> tuple[str, ...] | None:
        # A line with an open quote goes on in the next ones. When that does not make a row, only the first line is
        # given up: what it swallowed is read again, each line for itself.
        text = first
        taken: list[str] = []
        while text.count('"') % 2:
            more = self._lines.next() if len(taken) < LINES_PER_ROW_MAX else None
            if more is None:
                self._lines.put_back(taken)
                return None
            taken.append(more)
            text += more
        fields = _fields(text)
        if taken and (fields is None or len(fields) != len(self.columns)):
            self._lines.put_back(taken)
            return None
        return fields


class _Lines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: deque[str] = deque()
        self.number = 0
        self.bytes_read = 0
        self.too_long = False
        """Whether the last line was."""

    def next(self) -> str | None:
        self.too_long = False
        if self._waiting:
            self.number += 1
            return self._waiting.popleft()
        line = self._file.readline(LINE_BYTES_MAX)
        if not line:
            return None
        self.number += 1
        self.bytes_read += len(line)
        more = line
        while len(more) == LINE_BYTES_MAX and not more.endswith(b"\n"):
            more = self._file.readline(LINE_BYTES_MAX)
            self.bytes_read += len(more)
            self.too_long = True
        return line.decode("utf-8", "surrogateescape")

    def put_back(self, lines: Sequence[str]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)


def _fields(text: str) -> tuple[str, ...] | None:
    """The fields of one whole row; None when its quotes do not fit together."""
    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error:
        return None
    return tuple(rows[0]) if rows else ()


def _request(fields: Mapping[str, str]) -> CommandRequest:
    amount = fields["amount"].strip()
    if not _INTEGER.fullmatch(amount):
        raise ValueError(f"amount is {amount!r}; it must be an integer")
    note = fields.get(NOTE_COLUMN, "")
    return CommandRequest(
        operation=fields["operation"].strip(),
        owner_id=fields["owner_id"],
        nonce=fields["nonce"],
        amount=int(amount),
        metadata={"note": note} if note else None,
        issued_at=_midnight(fields["occurred_on"].strip()),
    )


def _midnight(text: str) -> datetime:
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        return datetime.combine(date.fromisoformat(text), time(tzinfo=UTC))
    except ValueError:
        raise ValueError(f"occurred_on is {text!r}; it must be a date like 2026-01-31") from None
