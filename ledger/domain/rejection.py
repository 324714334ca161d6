"""Why a command is rejected, in the order in which the reasons are checked, and the states that people see."""

from enum import StrEnum


class State(StrEnum):
    """Where a command is on its way, as people see it."""

    RECEIVED = "RECEIVED"
    VALIDATING = "VALIDATING"
    CHECKING_NONCE = "CHECKING_NONCE"
    CHECKING_BALANCE = "CHECKING_BALANCE"
    PROCESSING = "PROCESSING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"


class Reason(StrEnum):
    """A reason for a rejection. The order of the members is the order of precedence."""

    UNKNOWN_OPERATION = "UNKNOWN_OPERATION"
    OPERATION_NOT_ALLOWED = "OPERATION_NOT_ALLOWED"
    UNKNOWN_CREDIT_TYPE = "UNKNOWN_CREDIT_TYPE"
    INVALID_AMOUNT = "INVALID_AMOUNT"
    EXPIRED = "EXPIRED"
    DUPLICATE_NONCE = "DUPLICATE_NONCE"
    INSUFFICIENT_CREDITS = "INSUFFICIENT_CREDITS"
    BALANCE_OVERFLOW = "BALANCE_OVERFLOW"

    @property
    def failed_in(self) -> State:
        """The state in which a command with this reason failed."""
        return _FAILED_IN[self]


_FAILED_IN = {
    Reason.UNKNOWN_OPERATION: State.VALIDATING,
    Reason.OPERATION_NOT_ALLOWED: State.VALIDATING,
    Reason.UNKNOWN_CREDIT_TYPE: State.VALIDATING,
    Reason.INVALID_AMOUNT: State.VALIDATING,
    Reason.EXPIRED: State.VALIDATING,
    Reason.DUPLICATE_NONCE: State.CHECKING_NONCE,
    Reason.INSUFFICIENT_CREDITS: State.CHECKING_BALANCE,
    Reason.BALANCE_OVERFLOW: State.CHECKING_BALANCE,
}
