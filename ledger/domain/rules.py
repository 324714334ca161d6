"""The rule of an operation, and all the rules of one app: what `decide` looks up."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ledger.domain.limits import AMOUNT_MAX, DEFAULT_CREDIT_TYPE


class Sign(Enum):
    """Which amounts an operation may have. Amounts are signed everywhere: a spend is negative."""

    POSITIVE = "positive"
    NEGATIVE = "negative"
    ZERO = "zero"
    ANY = "any"


@dataclass(frozen=True, slots=True)
class OperationRule:
    """The rule of one operation.

    `default_amount` counts when the command names none. `caller_sets_amount` says whether the command may name another.
    `largest_amount` bounds the absolute value.
    """

    default_amount: int
    sign: Sign
    caller_sets_amount: bool = False
    largest_amount: int = AMOUNT_MAX

    def amount_error(self, amount: int) -> str | None:
        """What is wrong with this resulting amount, or None."""
        if amount != self.default_amount and not self.caller_sets_amount:
            return f"must be {self.default_amount}, got {amount}"
        if (
            (self.sign is Sign.POSITIVE and amount <= 0)
            or (self.sign is Sign.NEGATIVE and amount >= 0)
            or (self.sign is Sign.ZERO and amount != 0)
        ):
            return f"must be {self.sign.value}, got {amount}"
        if abs(amount) > self.largest_amount:
            return f"must be at most {self.largest_amount} in absolute value, got {amount}"
        return None


@dataclass(frozen=True, slots=True)
class AppRules:
    """All that is declared about one app. `allowed` is the part of `operations` that the app may use."""

    app: str
    operations: Mapping[str, OperationRule]
    allowed: frozenset[str]
    credit_types: frozenset[str] = frozenset({DEFAULT_CREDIT_TYPE})
