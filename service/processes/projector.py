"""The process that feeds the read models."""

import asyncio

from service.database import await_identity, warn_of_open_doors
from service.processes.lifecycle import freeze_start_up
from service.wiring import Wiring


async def serve_projector(wiring: Wiring, stop: asyncio.Event) -> None:
    """Run a projection worker until it is told to stop; it finishes the batch in hand and leaves its group.

    Raises:
        RecordMismatchError: the database is no ledger's, or a read model is not installed.
    """
    warn_of_open_doors(wiring.addresses, "projector")
    if await await_identity(wiring.addresses.database("projector"), stop) is None:
        return
    worker = wiring.projector()
    freeze_start_up()
    running = asyncio.ensure_future(worker.run())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    worker.stop()
    await running
