"""The process that decides commands."""

import asyncio

from service.database import await_identity, warn_of_open_doors
from service.processes.lifecycle import StoppedUnfinishedError, freeze_start_up
from service.wiring import Wiring


async def serve_consumer(wiring: Wiring, stop: asyncio.Event) -> None:
    """Run a ledger consumer until it is told to stop; it finishes the batch in hand and leaves its group.

    Raises:
        RecordMismatchError: the database is no ledger's, or another ledger's.
        StoppedUnfinishedError: it has left with something unpublished, or without giving its partitions back.
    """
    warn_of_open_doors(wiring.addresses, "writer")
    identity = await await_identity(wiring.addresses.database("writer"), stop)
    if identity is None:
        return
    consumer = wiring.consumer(identity.partitions)
    freeze_start_up()
    running = asyncio.ensure_future(consumer.run())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    consumer.stop()
    await running
    if not consumer.left_in_order:
        raise StoppedUnfinishedError("Kafka or Postgres did not take all of it; the next holder of the partitions does")
