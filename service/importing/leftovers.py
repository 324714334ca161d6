"""The two files of rows that were left over: unreadable ones and refused ones, ready to be mended and imported."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from service.importing.rows import REPORT_COLUMNS


class Leftovers:
    """Writes one file, made at its first row; an older file of this name is removed at the start."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self.path = path
        self.rows = 0
        self._columns = [column for column in columns if column not in REPORT_COLUMNS]
        self._dropped = {index for index, column in enumerate(columns) if column in REPORT_COLUMNS}
        self._file: TextIO | None = None
        self._writer: Any = None

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, line: int, fields: Sequence[str], reason: str, detail: str) -> None:
        """Add a row: its original columns, its line in the imported file, and why it is here."""
        if self._file is None:
            # What was not UTF-8 goes out byte for byte as it came in.
            self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            self._writer = csv.writer(self._file, lineterminator="\n")
            self._writer.writerow([*REPORT_COLUMNS, *self._columns])
        assert self._writer is not None
        kept = fields
        if len(fields) > len(self._dropped):
            kept = [field for index, field in enumerate(fields) if index not in self._dropped]
        self._writer.writerow([line, reason, detail, *kept])
        self.rows += 1
