"""An app with an operation that ends the process which decides it, as a crash in native code would."""

import os
from typing import Final

from ledger.operations import BaseLedgerOperations, OperationRule, Sign

KILLS: Final = 666
"""The amount that does it, unless `SURVIVES` is in the environment: that is the version which can decide it."""

SURVIVES: Final = "DEADLY_OPERATIONS_SURVIVE"
EXIT_CODE: Final = 66


class _Rule(OperationRule):
    def amount_error(self, amount: int) -> str | None:
        if amount == KILLS and SURVIVES not in os.environ:
            os._exit(EXIT_CODE)
        return super().amount_error(amount)


class DeadlyOperations(BaseLedgerOperations):
    """CREDIT_ADD is harmless, FLY is not."""

    app = "deadly"
    operations = {**BaseLedgerOperations.operations, "FLY": _Rule(1, Sign.POSITIVE, caller_sets_amount=True)}
