"""What a client says to Postgres, read just far enough to see where a COMMIT ends.

Source: https://www.postgresql.org/docs/18/protocol-message-formats.html
"""

import struct
from typing import Final

_SSL_REQUEST: Final = 80877103
_GSS_REQUEST: Final = 80877104
_CANCEL_REQUEST: Final = 80877102
_KEPT_TYPES: Final = frozenset(b"QPBES")
"""Messages whose contents matter here; of all others (such as COPY data) only the length is looked at."""


class FrontendProtocol:
    """Follows the messages of one connection, from its first byte."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        """Bytes of the message at hand that have not come yet and do not matter."""
        self._started = False
        self._statements: dict[bytes, bytes] = {}
        self._portals: dict[bytes, bytes] = {}
        self._commit_executed = False

    def commit_end(self, data: bytes) -> int | None:
        """Take the next bytes of the client; how many of them end with its first whole COMMIT, or None.

        A COMMIT is a simple query, or the Sync after an Execute: before that the server has not heard of it.
        """
        found: int | None = None
        begun = len(self._buffer)  # so many bytes of the buffer are of earlier calls
        consumed = 0
        if self._skip:
            consumed = min(self._skip, len(data))
            self._skip -= consumed
            assert not begun
        self._buffer += data[consumed:]
        at = 0
        while True:
            header = 5 if self._started else 4
            if len(self._buffer) - at < header:
                break
            kind = self._buffer[at] if self._started else 0
            length = struct.unpack_from(">I", self._buffer, at + header - 4)[0] + header - 4
            whole = len(self._buffer) - at >= length
            if not whole:
                if self._started and kind not in _KEPT_TYPES:
                    self._skip = length - (len(self._buffer) - at)
                    at = len(self._buffer)
                break
            if self._message(kind, bytes(self._buffer[at + header : at + length])) and found is None:
                found = consumed + at + length - begun
            at += length
        del self._buffer[:at]
        return found

    def _message(self, kind: int, body: bytes) -> bool:
        """Whether the server has to commit now."""
        if not self._started:
            code = struct.unpack_from(">I", body)[0]
            # After these the client waits for one letter and says hello once more.
            self._started = code not in (_SSL_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST)
            return False
        match chr(kind):
            case "Q":
                return _is_commit(body)
            case "P":
                name, query, _ = body.split(b"\0", 2)
                self._statements[name] = query
            case "B":
                portal, statement, _ = body.split(b"\0", 2)
                self._portals[portal] = self._statements.get(statement, b"")
            case "E":
                self._commit_executed |= _is_commit(self._portals.get(body.split(b"\0", 1)[0], b""))
            case "S":
                committed, self._commit_executed = self._commit_executed, False
                return committed
        return False


def _is_commit(query: bytes) -> bool:
    return query.lstrip()[:6].upper() == b"COMMIT"
