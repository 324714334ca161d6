"""`Idempotency-Key`: the same key is the same command, so a retry over HTTP gets the first answer."""

import json
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from ledger.domain.event import RecordedEvent
from ledger.domain.rejection import Reason
from ledger.domain.rules import OperationRule
from ledger.messages.command_ids import derived_command_id
from producers.errors import InsufficientCredits
from producers.http_models import EntryRequest

IDEMPOTENCY_KEY_CHARACTERS_MAX: Final = 255


def command_id_of_key(app: str, owner_id: str, key: str, index: int | None = None) -> UUID:
    """The command id that a key stands for; `index` tells the commands of one batch apart."""
    return derived_command_id(app, owner_id, key, *([] if index is None else [str(index)]))


def difference(request: EntryRequest, first: RecordedEvent, rules: Mapping[str, OperationRule]) -> str | None:
    """How this request differs from the one whose event was given as its answer; None when it does not.

    The event is all that is known of the first request. What it does not tell (the amount of some refusals,
    `not_after`) is not compared. `rules` are the app's operations, for the amount of a request that names none; a
    fixed amount is not compared with a rule that may have changed since.
    """
    if request.operation != first.operation:
        return f"operation was {first.operation}, is {request.operation}"
    if request.nonce != first.nonce:
        return f"nonce was {first.nonce}, is {request.nonce}"
    if request.credit_type != first.credit_type:
        return f"credit_type was {first.credit_type}, is {request.credit_type}"
    amount, first_amount = _amount(request, rules), _amount_asked_for(first)
    if amount is not None and first_amount is not None and amount != first_amount:
        return f"amount was {first_amount}, is {amount}"
    if request.metadata != (None if first.metadata is None else json.loads(bytes(first.metadata))):
        return "metadata differs"
    return None


def _amount(request: EntryRequest, rules: Mapping[str, OperationRule]) -> int | None:
    if request.amount is not None:
        return request.amount
    rule = rules.get(request.operation)
    return rule.default_amount if rule is not None and rule.caller_sets_amount else None


def _amount_asked_for(first: RecordedEvent) -> int | None:
    if first.accepted:
        return first.amount
    if first.reason == Reason.INSUFFICIENT_CREDITS:
        needed = InsufficientCredits(first).needed
        return None if needed is None else -needed
    if first.reason == Reason.INVALID_AMOUNT and first.detail is not None:
        # "must be negative, got 1000"
        got = first.detail.rpartition(" got ")[2]
        return int(got) if got.removeprefix("-").isdigit() else None
    return None
