"""A day at the bakery, on a running ledger: `python -m docs.examples.bakery.day http://127.0.0.1:8000`."""

import asyncio
import os
import sys

from docs.examples.bakery.checkout import pay, pay_whatever_happens
from docs.examples.bakery.gift_cards import load_gift_cards
from docs.examples.bakery.statements import balances_after, statement
from ledger.messages.command_ids import derived_command_id
from producers import InvalidAmount, LedgerClient, OperationNotAllowed

KAFKA = os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"]
PREFIX = os.environ.get("LEDGER_TOPIC_PREFIX", "ledger")


async def main(ledger_url: str) -> None:
    async with LedgerClient("bakery", KAFKA, topic_prefix=PREFIX) as ledger:
        print("cards:", await load_gift_cards(ledger, "spring", ["mary", "nora"]))
        print("order-1:", await pay(ledger, "mary", "order-1", 120))
        print("order-1:", await pay(ledger, "mary", "order-1", 120))
        print("order-2:", await pay(ledger, "mary", "order-2", 900))
        try:
            await ledger.submit("PURCHASE", "mary", "order-3", 50)
        except InvalidAmount as refused:
            print("order-3:", refused)
        try:
            await ledger.submit("CREDIT_ADD", "mary", "a-gift", 1_000)
        except OperationNotAllowed as refused:
            print("a-gift:", refused)
        payment = derived_command_id("payment", "order-4")
        outcome = await pay_whatever_happens(ledger, payment, "mary", "order-4", 30)
    print("balances:", balances_after(ledger_url, outcome))
    for entry in statement(ledger_url, "mary"):
        print(f"{entry['operation']:10}{entry['amount']:5}{entry['balance_after']:5}  {entry['nonce']}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
