"""A large ledger that outlives the benchmark, for whoever changes something and measures again and again (`--keep`).

It is filled once; every run adds its commands to it. Whoever changes the schema deletes it: the folder `bench` in
LEDGER_HOME.
"""

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.fresh_ledger import FreshLedger, ledger_template, made_database, opened_ledger, url_of_database
from benchmarks.history import Progress, fill_history
from benchmarks.servers import Servers

FILE: Final = "kept-history.json"


@asynccontextmanager
async def kept_history(servers: Servers, events: int, owners: int, progress: Progress) -> AsyncIterator[FreshLedger]:
    """The one that was kept, if it was filled with as many events and owners; otherwise it is filled now."""
    file = servers.home / FILE
    wanted = {"events": events, "owners": owners}
    kept = json.loads(file.read_text()) if file.exists() else {}
    if all(kept.get(name) == count for name, count in wanted.items()):
        async with opened_ledger(servers, url_of_database(servers, kept["database"]), kept["prefix"]) as ledger:
            progress("kept history", await ledger.events(), events)
            yield ledger
        return
    name = f"history_{uuid.uuid4().hex}"
    database_url = await made_database(servers, name, await ledger_template(servers))
    prefix = f"kept{uuid.uuid4().hex[:8]}"
    async with opened_ledger(servers, database_url, prefix) as ledger:
        await fill_history(ledger, events, owners, progress)
        file.write_text(json.dumps({**wanted, "database": name, "prefix": prefix}) + "\n")
        yield ledger
