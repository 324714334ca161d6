"""Publishes to brokers that ask for a login: `python docs/examples/with_login.py OWNER`, with the settings below."""

import asyncio
import os
import sys
from pathlib import Path

from producers import KafkaSecurity, LedgerClient


async def main(owner_id: str) -> None:
    """The login decides as which app the brokers let this program write."""
    security = KafkaSecurity(
        protocol="SASL_SSL",
        mechanism="SCRAM-SHA-512",
        username=os.environ["LEDGER_KAFKA_USERNAME"],
        password=os.environ["LEDGER_KAFKA_PASSWORD"],
        ca_file=Path(os.environ["LEDGER_KAFKA_CA_FILE"]),
    )
    servers = os.environ["LEDGER_KAFKA_BOOTSTRAP_SERVERS"]
    async with LedgerClient("example-app", servers, security=security) as ledger:
        published = await ledger.publish("CREDIT_ADD", owner_id, nonce="welcome-gift", amount=5)
        print(f"published to {published.topic}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
