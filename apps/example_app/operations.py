"""The operations of the example app."""

from ledger.operations import BaseLedgerOperations, OperationRule, Sign


class ExampleAppOperations(BaseLedgerOperations):
    """Creating content costs five credits; reading it is free, but recorded."""

    app = "example-app"
    operations = {
        **BaseLedgerOperations.operations,
        "CONTENT_CREATION": OperationRule(-5, Sign.NEGATIVE),
        "CONTENT_ACCESS": OperationRule(0, Sign.ZERO),
    }
