"""Gives credits to many owners from a script: `python docs/examples/top_up.py OWNER ...`, without asyncio."""

import os
import sys

from producers import CommandRequest, LedgerError, SyncLedgerClient


def main(owners: list[str]) -> None:
    """One batch, one result for each owner: a refusal stops no other."""
    with SyncLedgerClient(
        app="example-app",
        kafka_bootstrap_servers=os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=os.environ.get("LEDGER_TOPIC_PREFIX", "ledger"),
    ) as ledger:
        gifts = [CommandRequest("CREDIT_ADD", owner, nonce="spring-gift", amount=300) for owner in owners]
        for owner, result in zip(owners, ledger.submit_many(gifts), strict=True):
            print(owner, result if isinstance(result, LedgerError) else result.balance, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
