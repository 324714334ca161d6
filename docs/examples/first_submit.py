"""One command and its outcome: `python docs/examples/first_submit.py`, with LEDGER_KAFKA_BOOTSTRAP_SERVERS set."""

import asyncio
import os

from producers import LedgerClient

KAFKA = os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"]
PREFIX = os.environ.get("LEDGER_TOPIC_PREFIX", "ledger")


async def main() -> None:
    async with LedgerClient("example-app", KAFKA, topic_prefix=PREFIX) as ledger:
        outcome = await ledger.submit("CREDIT_SPEND", owner_id="user-42", nonce="order-4", amount=-20)
        print(outcome.balance)


if __name__ == "__main__":
    asyncio.run(main())
