"""The registry: which operations each app has, by which rules."""

from ledger.domain.rules import AppRules, OperationRule, Sign
from ledger.operations.app_operations import BaseLedgerOperations, OperationsError
from ledger.operations.registry import Registry, load_registry

__all__ = [
    "AppRules",
    "BaseLedgerOperations",
    "OperationRule",
    "OperationsError",
    "Registry",
    "Sign",
    "load_registry",
]
