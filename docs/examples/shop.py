"""Sells an article, safely: `python docs/examples/shop.py OWNER ORDER`, with LEDGER_KAFKA_BOOTSTRAP_SERVERS set."""

import asyncio
import os
import sys

from producers import DuplicateNonce, InsufficientCredits, LedgerClient, OutcomeUnknown


async def sell(ledger: LedgerClient, owner_id: str, order: str) -> str:
    """Take 250 credits for an order, once, however often this is called."""
    try:
        outcome = await ledger.submit("CREDIT_SPEND", owner_id, nonce=f"order-{order}", amount=-250)
    except InsufficientCredits as refused:
        return f"{owner_id} has {refused.available} credits and needs {refused.needed}"
    except DuplicateNonce as refused:
        return f"order {order} was paid at {refused.original}"
    except OutcomeUnknown as unknown:
        # Nothing is lost: ask again with the same id, now or after a restart.
        outcome = await ledger.submit(
            "CREDIT_SPEND", owner_id, nonce=f"order-{order}", amount=-250, command_id=unknown.command_id
        )
    return f"sold at {outcome.position}, {outcome.balance} credits left"


async def main(owner_id: str, order: str) -> None:
    """Open the client once, and share it among all tasks of the program."""
    async with LedgerClient(
        app="example-app",
        kafka_bootstrap_servers=os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"],
        topic_prefix=os.environ.get("LEDGER_TOPIC_PREFIX", "ledger"),
    ) as ledger:
        print(await sell(ledger, owner_id, order), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
