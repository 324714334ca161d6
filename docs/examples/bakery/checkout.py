"""Selling for credits."""

import asyncio
from uuid import UUID

from producers import (
    DuplicateNonce,
    InsufficientCredits,
    KafkaUnavailable,
    LedgerClient,
    NotPublished,
    Outcome,
    OutcomeUnknown,
)

PAUSES_S = (0.5, 2.0, 10.0, 30.0)


async def pay(ledger: LedgerClient, customer: str, order: str, price: int) -> str:
    """Take the price of an order, once, and say to the customer what became of it."""
    try:
        outcome = await ledger.submit("PURCHASE", customer, nonce=order, amount=-price, metadata={"order": order})
    except InsufficientCredits as refused:
        return f"this costs {refused.needed}, and you have {refused.available}"
    except DuplicateNonce as refused:
        return f"{order} is paid already, see {refused.original}"
    return f"paid, you have {outcome.balance} left"


async def pay_whatever_happens(
    ledger: LedgerClient, command_id: UUID, customer: str, order: str, price: int
) -> Outcome:
    """Take the price even if Kafka is away for a while. Every try is the same command, so it is taken once."""
    for pause_s in PAUSES_S:
        try:
            return await ledger.submit("PURCHASE", customer, nonce=order, amount=-price, command_id=command_id)
        except (KafkaUnavailable, NotPublished, OutcomeUnknown):
            await asyncio.sleep(pause_s)
    return await ledger.submit("PURCHASE", customer, nonce=order, amount=-price, command_id=command_id)
