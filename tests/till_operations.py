"""An app that may only spend: the till of a shop."""

from ledger.operations import BaseLedgerOperations, OperationRule, Sign

LARGEST_PURCHASE = 50


class TillOperations(BaseLedgerOperations):
    """Of the base operations CREDIT_SPEND alone; an operation of its own with a largest amount."""

    app = "till"
    operations = {
        **BaseLedgerOperations.operations,
        "PURCHASE": OperationRule(-1, Sign.NEGATIVE, caller_sets_amount=True, largest_amount=LARGEST_PURCHASE),
    }
    allowed_base_operations = frozenset({"CREDIT_SPEND"})
