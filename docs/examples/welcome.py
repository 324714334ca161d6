"""Greets every new owner: `python docs/examples/welcome.py`, with LEDGER_KAFKA_BOOTSTRAP_SERVERS set."""

import asyncio
import os

from consumers.subscriber import LedgerSubscriber, RecordedEvent
from ledger.messages.topics import Topics

subscriber = LedgerSubscriber(
    app="example-app",
    group="example-app.welcome",
    kafka_bootstrap_servers=os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"],
    topics=Topics(os.environ.get("LEDGER_TOPIC_PREFIX", "ledger")),
    on_failure="park",
    start="beginning",
)


@subscriber.on("entry_posted", app="example-app", operation="SIGNUP_CREDIT")
async def welcome(event: RecordedEvent) -> None:
    """Called once for every signup, and perhaps once more after a crash: the position tells."""
    print(f"{event.position} welcome {event.owner_id}, you have {event.balance_after} credits", flush=True)


@subscriber.on("command_rejected", app="example-app", operation="SIGNUP_CREDIT")
async def again(event: RecordedEvent) -> None:
    """A rejection is an event too."""
    print(f"{event.position} {event.owner_id} knows us already: {event.reason}", flush=True)


if __name__ == "__main__":
    asyncio.run(subscriber.run())
