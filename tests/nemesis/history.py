"""What a client did and what it was told, in a file of its own that a kill -9 leaves readable.

One JSON array a line: partition, what, run, call, and then what belongs to it. The line of a call is handed to the
kernel before the command is sent. The partition comes first so that an audit can go partition by partition.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one run of a client; `number` rises in the order of the calls."""

    client: str
    run: int
    number: int
    partition: int
    app: str
    command_id: str
    waits: bool
    """Whether the outcome was asked for, rather than only a place in Kafka."""
    body: dict[str, Any] = field(hash=False)
    """What was asked for: operation, owner_id, nonce, amount, issued_at, not_after."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Kafka acknowledged the call's command."""

    offset: int


@dataclass(frozen=True, slots=True)
class Answered:
    """The client was told what had become of the command."""

    position: str
    hash: str
    reason: str | None
    balance: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The client was told that nothing was sent (`NotPublished`, ...), or that it is not known."""

    error: str
    offset: int | None


Answer = Placed | Answered | Failed


@dataclass(slots=True)
class Told:
    """A call and what came of it; None while nothing did, as when the client was killed."""

    call: Call
    answer: Answer | None = None


class HistoryWriter:
    """Appends to a client's file."""

    def __init__(self, path: Path, client: str, run: int) -> None:
        self._file: IO[bytes] = path.open("ab", buffering=0)
        self._client = client
        self._run = run
        self._calls = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def call(self, app: str, partition: int, command_id: str, waits: bool, body: dict[str, Any]) -> Call:
        """Note a call that is about to be made."""
        self._calls += 1
        call = Call(self._client, self._run, self._calls, partition, app, command_id, waits, body)
        self._write([partition, "call", self._run, self._calls, app, command_id, waits, body])
        return call

    def poison(self, app: str, partition: int, key: bytes | None, value: bytes | None, offset: int | None) -> None:
        """Note something unreadable: before it is sent (no offset), and again with its place."""
        hexes = [None if part is None else part.hex() for part in (key, value)]
        self._write([partition, "poison", self._run, 0, app, *hexes, offset])

    def answer(self, call: Call, answer: Answer) -> None:
        """Note what came of it."""
        match answer:
            case Placed(offset):
                self._write([call.partition, "placed", call.run, call.number, offset])
            case Answered(position, hash_, reason, balance, replayed):
                self._write(
                    [call.partition, "answered", call.run, call.number, position, hash_, reason, balance, replayed]
                )
            case Failed(error, offset):
                self._write([call.partition, "failed", call.run, call.number, error, offset])

    def _write(self, line: list[Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Poison:
    """Something unreadable that was sent, or was about to be (`offset` None)."""

    app: str
    partition: int
    key: bytes | None
    value: bytes | None
    offset: int | None


@dataclass(slots=True)
class History:
    """Of one client, as far as one partition goes (or all)."""

    client: str
    calls: list[Told]
    poison: list[Poison]


def read_history(path: Path, partition: int | None = None, last_bytes: int | None = None) -> History:
    """The history in a file, of one partition or of all.

    Args:
        path: its name is the client's.
        partition: only what belongs to it.
        last_bytes: only what lies so near to the end; the calls of answers that come without them are left out.
    """
    history = History(path.stem, [], [])
    told: dict[tuple[int, int], Told] = {}
    prefix = b"[" if partition is None else b"[%d," % partition
    for line in _lines(path, last_bytes):
        # A kill can leave half a line, and a new run writes on behind it; what it told was not told to anybody.
        if not line.startswith(prefix) or not line.endswith(b"]\n"):
            continue
        try:
            where, what, run, number, *rest = json.loads(line)
        except ValueError:
            continue
        if what == "call":
            app, command_id, waits, body = rest
            one = Told(Call(history.client, run, number, where, app, command_id, waits, body))
            told[run, number] = one
            history.calls.append(one)
        elif what == "poison":
            app, key, value, offset = rest
            history.poison.append(Poison(app, where, _bytes(key), _bytes(value), offset))
        elif (run, number) in told:
            kinds = {"placed": Placed, "answered": Answered, "failed": Failed}
            told[run, number].answer = kinds[what](*rest)
    return history


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else bytes.fromhex(text)


def _lines(path: Path, last_bytes: int | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        if last_bytes is not None and (size := os.fstat(file.fileno()).st_size) > last_bytes:
            file.seek(size - last_bytes)
            file.readline()
        yield from file
