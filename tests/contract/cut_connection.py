"""A connection to Postgres that is cut at the moment of a COMMIT."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

_CHUNK_BYTES = 65_536


@asynccontextmanager
async def cut_at_commit(url: str, *, commit_arrives: bool) -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A URL that leads to the same database, and the event that arms the knife.

    While it is armed the first COMMIT cuts its connection: before Postgres has it, or after Postgres has answered.
    """
    parts = urlsplit(url)
    armed = asyncio.Event()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream_writer = await asyncio.open_connection(parts.hostname, parts.port)
        cut = asyncio.Event()

        async def requests() -> None:
            while data := await reader.read(_CHUNK_BYTES):
                if armed.is_set() and b"COMMIT" in data:
                    cut.set()
                    if not commit_arrives:
                        break
                upstream_writer.write(data)
                await upstream_writer.drain()
            if not (cut.is_set() and commit_arrives):
                upstream_writer.close()
                writer.close()

        async def answers() -> None:
            while data := await upstream_reader.read(_CHUNK_BYTES):
                if cut.is_set():
                    break
                writer.write(data)
                await writer.drain()
            upstream_writer.close()
            writer.close()

        for half in (requests(), answers()):
            task = asyncio.create_task(half)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    netloc = f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"
    try:
        yield urlunsplit(parts._replace(netloc=netloc)), armed
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
