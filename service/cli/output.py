"""What a command prints and how it ends: text for people, JSON for programs, errors that say what to do.

Results go to standard output; progress and errors to standard error, so that `--json` output can be piped.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

PIPED_COLUMNS: Final = 160
PROGRESS_REFRESHES_PER_S: Final = 4


class ExitCode(IntEnum):
    """How a command ended (source: docs/reference.md)."""

    OK = 0
    NO = 1
    """The command worked and its answer is no: a rejection, a violation, something that is not there."""
    USAGE = 2
    """The command line or a setting is wrong; nothing was done."""
    UNAVAILABLE = 3
    """Kafka or Postgres is away, no ledger runs, or an outcome did not come in time: try again."""
    INTERRUPTED = 130


class CliError(Exception):
    """A command cannot do what it was asked."""

    def __init__(self, code: ExitCode, what: str, to_do: str | None = None) -> None:
        """
        Args:
            code: how the command ends.
            what: what happened, and to what.
            to_do: what to do next.
        """
        super().__init__(what)
        self.code = code
        self.what = what
        self.to_do = to_do


class Output:
    """Prints results as text or, with `--json`, as one JSON document."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        # Where nobody can tell how wide it is, a table should not be folded to the width of an old terminal.
        self.console = Console(soft_wrap=True, highlight=False, markup=False)
        if not self.console.is_terminal:
            self.console.width = PIPED_COLUMNS
        self.errors = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

    def result(self, document: Any, as_text: Callable[[Console], None] | str) -> None:
        """Print the result once: `document` for programs, `as_text` for people."""
        if self.as_json:
            self.json_line(document, indent=2 if self.console.is_terminal else None)
        elif isinstance(as_text, str):
            self.console.print(printable(as_text))
        else:
            as_text(self.console)

    def json_line(self, document: Any, indent: int | None = None) -> None:
        """One JSON document on a line of its own, out at once: a reader at the other end of a pipe sees it."""
        sys.stdout.write(json.dumps(document, default=plain, ensure_ascii=False, indent=indent) + "\n")
        sys.stdout.flush()

    def note(self, line: str) -> None:
        """One line for a person who watches; on standard error, so that it never mixes with a result."""
        self.errors.print(printable(line))

    def error(self, error: CliError) -> None:
        """The error, and what to do about it."""
        if self.as_json:
            document = {"error": error.what, "to_do": error.to_do, "exit_code": int(error.code)}
            sys.stderr.write(json.dumps(document, ensure_ascii=False) + "\n")
            return
        self.errors.print(Text.assemble(("error: ", "bold red"), printable(error.what)))
        if error.to_do:
            self.errors.print(Text.assemble(("to do: ", "bold"), printable(error.to_do)))

    def progress(self, unit: str) -> Progress:
        """A bar on standard error with rate and time left; silent where standard error is no terminal."""
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=self.errors,
            disable=not self.errors.is_terminal,
            refresh_per_second=PROGRESS_REFRESHES_PER_S,
            transient=True,
        )


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str | None = None) -> Table:
    """A table; columns of which every value is a number are set flush right. Values are never read as markup."""
    made = Table(title=None if title is None else Text(printable(title)), title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int) for row in rows)
        made.add_column(Text(printable(column)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(printable(_cell(value))) for value in row))
    return made


def printable(text: str) -> str:
    """The text with everything escaped that could move a cursor or change a colour: ids come from anybody."""
    return "".join(one if one.isprintable() or one == "\n" else one.encode("unicode_escape").decode() for one in text)


def plain(value: object) -> Any:
    """What JSON does not know, as what it knows."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, date | UUID | Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(value)
