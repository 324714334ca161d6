"""What is a readable command, and what must become of it: written from DESIGN.md, sharing nothing with the product."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

LARGEST: Final = 2**53 - 1
METADATA_BYTES_MAX: Final = 4096
_NAMES: Final = frozenset(
    ("command_id", "operation", "owner_id", "nonce", "amount", "credit_type", "issued_at", "not_after", "metadata")
)
_NEEDED: Final = frozenset(("command_id", "operation", "owner_id", "nonce", "issued_at"))


@dataclass(frozen=True, slots=True)
class Rule:
    """An operation: its default amount, its sign (`+`, `-`, `0`), whether the caller may set the amount."""

    default: int
    sign: str
    settable: bool
    largest: int = LARGEST


@dataclass(frozen=True, slots=True)
class App:
    """What one app declares. `sometimes_unknown`: operations that not every version of the ledger knew."""

    operations: Mapping[str, Rule]
    allowed: frozenset[str] | None = None
    credit_types: frozenset[str] = frozenset({"credits"})
    sometimes_unknown: frozenset[str] = frozenset()


BASE_OPERATIONS: Final = {
    "DAILY_REWARD": Rule(1, "+", settable=False),
    "SIGNUP_CREDIT": Rule(3, "+", settable=False),
    "CREDIT_SPEND": Rule(-1, "-", settable=True),
    "CREDIT_ADD": Rule(10, "+", settable=True),
}
EXAMPLE_APP_OPERATIONS: Final = {
    **BASE_OPERATIONS,
    "CONTENT_CREATION": Rule(-5, "-", settable=False),
    "CONTENT_ACCESS": Rule(0, "0", settable=False),
}


class Command(NamedTuple):
    """A command as it can be read."""

    command_id: UUID
    operation: str
    owner_id: str
    nonce: str
    issued_at: datetime
    amount: int | None
    credit_type: str
    not_after: datetime | None
    metadata: bool
    """Whether it carries metadata."""


class Expected(NamedTuple):
    """What must become of a command. `detail` None: any text."""

    reason: str | None
    amount: int
    detail: str | None = None


def partition_of(key: bytes, partitions: int) -> int:
    """murmur2(key) mod N, as Java's clients compute it."""
    return _murmur2(key) % partitions


def read(key: bytes | None, value: bytes | None, partition: int, partitions: int) -> Command | None:
    """The command that a message carries, or None: then it belongs into quarantine."""
    if value is None:
        return None
    try:
        body = json.loads(value.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or isinstance(body, _Repeated) or not _NEEDED <= body.keys() <= _NAMES:
        return None
    command = _typed(body)
    if command is None or key is None or key != command.owner_id.encode():
        return None
    if command.metadata and not _metadata_is_small(body["metadata"], value):
        return None
    return command if partition_of(key, partitions) == partition else None


def expected(
    command: Command, app: App, balance: int, occurred_at: datetime, nonce_used_at: str | None
) -> tuple[Expected, ...]:
    """What may become of a command that was not decided before: one outcome, or two where a version did not know the
    operation yet."""
    unknown = Expected("UNKNOWN_OPERATION", 0)
    rule = app.operations.get(command.operation)
    if rule is None:
        return (unknown,)
    known = _expected_of_known(command, app, rule, balance, occurred_at, nonce_used_at)
    return (known, unknown) if command.operation in app.sometimes_unknown else (known,)


def _expected_of_known(
    command: Command, app: App, rule: Rule, balance: int, occurred_at: datetime, nonce_used_at: str | None
) -> Expected:
    if app.allowed is not None and command.operation not in app.allowed:
        return Expected("OPERATION_NOT_ALLOWED", 0)
    if command.credit_type not in app.credit_types:
        return Expected("UNKNOWN_CREDIT_TYPE", 0)
    amount = rule.default if command.amount is None else command.amount
    sign = "+" if amount > 0 else "-" if amount < 0 else "0"
    if (amount != rule.default and not rule.settable) or sign != rule.sign or abs(amount) > rule.largest:
        return Expected("INVALID_AMOUNT", 0)
    if command.not_after is not None and occurred_at > command.not_after:
        return Expected("EXPIRED", 0)
    if nonce_used_at is not None:
        return Expected("DUPLICATE_NONCE", 0, nonce_used_at)
    if balance + amount < 0:
        return Expected("INSUFFICIENT_CREDITS", 0, f"{balance} available, {-amount} needed")
    if balance + amount > LARGEST:
        return Expected("BALANCE_OVERFLOW", 0)
    return Expected(None, amount)


def _typed(body: dict[str, Any]) -> Command | None:
    texts = {"operation": 64, "owner_id": 128, "nonce": 128, "credit_type": 64}
    for name, length in texts.items():
        text = body.get(name, "credits")
        if not isinstance(text, str) or not 1 <= len(text) <= length or not _storable(text):
            return None
    amount = body.get("amount")
    if "amount" in body and (type(amount) is not int or not -(2**63) <= amount < 2**63):
        return None
    issued_at, not_after = _time(body["issued_at"]), _time(body.get("not_after"))
    if issued_at is None or ("not_after" in body and not_after is None):
        return None
    if "metadata" in body and not isinstance(body["metadata"], dict):
        return None
    if not isinstance(body["command_id"], str):
        return None
    try:
        command_id = UUID(body["command_id"])
    except ValueError:
        return None
    return Command(
        command_id,
        body["operation"],
        body["owner_id"],
        body["nonce"],
        issued_at,
        amount,
        body.get("credit_type", "credits"),
        not_after,
        "metadata" in body,
    )


def _metadata_is_small(metadata: dict[str, Any], value: bytes) -> bool:
    # As sent: with the spaces that it was sent with. A whole message within the limit needs no closer look.
    if len(value) <= METADATA_BYTES_MAX:
        return True
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) <= METADATA_BYTES_MAX


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo is not None else None


class _Repeated(dict[str, Any]):
    """An object in which a name comes twice: allowed in metadata, which is kept as text, and nowhere else."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    return body if len(body) == len(pairs) else _Repeated(pairs)


def _refuse(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


@lru_cache(maxsize=100_000)
def _murmur2(data: bytes) -> int:
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        k = (int.from_bytes(data[at : at + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    if whole < len(data):
        h = ((h ^ int.from_bytes(data[whole:], "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return (h ^ (h >> 15)) & 0x7FFFFFFF
