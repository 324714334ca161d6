"""The operations of the bakery."""

from ledger.operations import BaseLedgerOperations, OperationRule, Sign


class BakeryOperations(BaseLedgerOperations):
    """Customers load gift cards and pay with credits; a review earns points."""

    app = "bakery"
    operations = {
        **BaseLedgerOperations.operations,
        "GIFT_CARD": OperationRule(500, Sign.POSITIVE, caller_sets_amount=True, largest_amount=5_000),
        "PURCHASE": OperationRule(-1, Sign.NEGATIVE, caller_sets_amount=True, largest_amount=10_000),
        "REVIEW": OperationRule(2, Sign.POSITIVE),
    }
    allowed_base_operations = frozenset({"SIGNUP_CREDIT"})
    credit_types = frozenset({"credits", "points"})
