"""The operations that every app has, and the class from which an app's own operations derive."""

import re
from collections.abc import Mapping
from typing import ClassVar, Final

from ledger.domain.limits import (
    AMOUNT_MAX,
    APP_PATTERN,
    CREDIT_TYPE_CHARACTERS_MAX,
    DEFAULT_CREDIT_TYPE,
    OPERATION_CHARACTERS_MAX,
)
from ledger.domain.rules import AppRules, OperationRule, Sign

BASE_OPERATIONS: Final[Mapping[str, OperationRule]] = {
    "DAILY_REWARD": OperationRule(1, Sign.POSITIVE),
    "SIGNUP_CREDIT": OperationRule(3, Sign.POSITIVE),
    "CREDIT_SPEND": OperationRule(-1, Sign.NEGATIVE, caller_sets_amount=True, largest_amount=AMOUNT_MAX),
    "CREDIT_ADD": OperationRule(10, Sign.POSITIVE, caller_sets_amount=True, largest_amount=AMOUNT_MAX),
}
_OPERATION_NAME: Final = re.compile(r"^[A-Z][A-Z0-9_]*$")
_CREDIT_TYPE_NAME: Final = re.compile(r"^[a-z][a-z0-9_-]*$")


class OperationsError(Exception):
    """A declaration of operations that cannot be used; the text names the class, the operation and the mend."""


class BaseLedgerOperations:
    """Derive one class per app, in a file of its own, and name it in the entry points `ledger.apps`.

    Example:
        class ShopOperations(BaseLedgerOperations):
            app = "shop"
            operations = {**BaseLedgerOperations.operations, "PURCHASE": OperationRule(-10, Sign.NEGATIVE)}
            allowed_base_operations = frozenset({"CREDIT_SPEND"})
    """

    app: ClassVar[str] = ""
    """The app's name, `[a-z][a-z0-9-]{0,30}`: its command topic is `ledger.commands.<app>`."""

    operations: ClassVar[Mapping[str, OperationRule]] = BASE_OPERATIONS
    """All operations: the base operations, unchanged, and the app's own."""

    allowed_base_operations: ClassVar[frozenset[str]] = frozenset(BASE_OPERATIONS)
    """Which base operations the app may use: one that may only spend cannot mint by CREDIT_ADD."""

    credit_types: ClassVar[frozenset[str]] = frozenset({DEFAULT_CREDIT_TYPE})
    """The kinds of credits that the app's commands may name."""

    @classmethod
    def get_operation_config(cls, operation: str) -> OperationRule:
        """The rule of one operation.

        Raises:
            OperationsError: this app has no such operation.
        """
        rule = cls.operations.get(operation)
        if rule is None:
            raise OperationsError(f"{cls.__name__} has no operation {operation!r}; it has {', '.join(cls.operations)}")
        return rule

    @classmethod
    def validate_operations(cls) -> None:
        """Check the declaration; called at start for every app.

        Raises:
            OperationsError: what is wrong, where, and what to do.
        """
        _check_names(cls)
        for name, rule in BASE_OPERATIONS.items():
            declared = cls.operations.get(name)
            if declared is None:
                raise OperationsError(
                    f"{cls.__name__} drops the base operation {name}; "
                    "declare operations as {**BaseLedgerOperations.operations, ...}"
                )
            if declared != rule:
                raise OperationsError(
                    f"{cls.__name__} changes the base operation {name} from {rule} to {declared}; "
                    "give the changed operation a name of its own"
                )
        for name, rule in cls.operations.items():
            _check_rule(cls, name, rule)

    @classmethod
    def rules(cls) -> AppRules:
        """The rules as `decide` wants them, checked.

        Raises:
            OperationsError: see `validate_operations`.
        """
        cls.validate_operations()
        own = frozenset(cls.operations) - frozenset(BASE_OPERATIONS)
        return AppRules(cls.app, dict(cls.operations), own | cls.allowed_base_operations, cls.credit_types)


def _check_names(cls: type[BaseLedgerOperations]) -> None:
    if not re.fullmatch(APP_PATTERN, cls.app):
        raise OperationsError(f"{cls.__name__}.app is {cls.app!r}; it must match {APP_PATTERN}")
    for name in cls.operations:
        if not _OPERATION_NAME.fullmatch(name) or len(name) > OPERATION_CHARACTERS_MAX:
            raise OperationsError(
                f"{cls.__name__} declares the operation {name!r}; use upper-case letters, digits and _, "
                f"at most {OPERATION_CHARACTERS_MAX} characters"
            )
    unknown = cls.allowed_base_operations - frozenset(BASE_OPERATIONS)
    if unknown:
        raise OperationsError(
            f"{cls.__name__}.allowed_base_operations names {', '.join(sorted(unknown))}, "
            f"which are not base operations; those are {', '.join(BASE_OPERATIONS)}"
        )
    if not cls.credit_types:
        raise OperationsError(f"{cls.__name__}.credit_types is empty; declare at least one")
    for credit_type in cls.credit_types:
        if not _CREDIT_TYPE_NAME.fullmatch(credit_type) or len(credit_type) > CREDIT_TYPE_CHARACTERS_MAX:
            raise OperationsError(
                f"{cls.__name__} declares the credit type {credit_type!r}; use lower-case letters, digits, - and _, "
                f"at most {CREDIT_TYPE_CHARACTERS_MAX} characters"
            )


def _check_rule(cls: type[BaseLedgerOperations], name: str, rule: OperationRule) -> None:
    if not 0 <= rule.largest_amount <= AMOUNT_MAX:
        raise OperationsError(f"{cls.__name__}.{name}: largest_amount must lie between 0 and {AMOUNT_MAX}")
    error = rule.amount_error(rule.default_amount)
    if error is not None:
        raise OperationsError(f"{cls.__name__}.{name}: the default amount breaks its own rule: {error}")
