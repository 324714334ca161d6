"""Many commands in one call."""

from collections.abc import Iterable

from producers import CommandRejected, CommandRequest, LedgerClient, Outcome


async def load_gift_cards(ledger: LedgerClient, campaign: str, customers: Iterable[str]) -> dict[str, str]:
    """Give each customer a gift card, once in a campaign. What became of each, by customer."""
    requests = [CommandRequest("GIFT_CARD", customer, nonce=f"{campaign}_{customer}") for customer in customers]
    report = {}
    for request, result in zip(requests, await ledger.submit_many(requests), strict=True):
        match result:
            case Outcome():
                report[request.owner_id] = f"has {result.balance} credits"
            case CommandRejected():
                report[request.owner_id] = f"refused: {result.reason}"
            case error:  # Kafka is away, or the answer did not come: run the campaign again, nobody gets two
                report[request.owner_id] = f"not known: {error}"
    return report
