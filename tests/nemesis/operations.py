"""The second app of a fault run, as it is deployed first, and as it is after the rolling restart."""

from typing import Final

from ledger.operations import BaseLedgerOperations, OperationRule, Sign

SHOP: Final = "shop"
NEW_OPERATION: Final = "LOYALTY_BONUS"


class ShopOperations(BaseLedgerOperations):
    """The first version."""

    app = SHOP
    operations = {**BaseLedgerOperations.operations, "PURCHASE": OperationRule(-10, Sign.NEGATIVE)}


class ShopOperationsWithBonus(BaseLedgerOperations):
    """The second version: one operation more."""

    app = SHOP
    operations = {**ShopOperations.operations, NEW_OPERATION: OperationRule(2, Sign.POSITIVE)}


FIRST_VERSION: Final = f"{__name__}:{ShopOperations.__name__}"
SECOND_VERSION: Final = f"{__name__}:{ShopOperationsWithBonus.__name__}"
