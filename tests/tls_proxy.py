"""A Postgres that speaks TLS, on any machine: a proxy that answers the driver's SSLRequest and speaks plainly behind.

The packaged Postgres binaries are built without TLS.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
_CHUNK_BYTES = 65_536


@dataclass
class TlsProxy:
    """Where it listens, and how often TLS was really spoken."""

    port: int
    handshakes: int = 0

    def url(self, database_url: str, host: str = "localhost") -> str:
        """The same database and login, reached through the proxy under this name."""
        parts = urlsplit(database_url)
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{host}:{self.port}"))


@asynccontextmanager
async def tls_proxy(database_url: str, context: ssl.SSLContext) -> AsyncIterator[TlsProxy]:
    """Serve with the certificate of the context until the end of the block."""
    parts = urlsplit(database_url)
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # one end is gone; so is the other, below
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST, "the client asked for no TLS"
        writer.write(b"S")
        await writer.drain()
        try:
            await writer.start_tls(context)
        except (OSError, ssl.SSLError):
            writer.close()  # the client did not like the certificate
            return
        proxy.handshakes += 1
        upstream_reader, upstream_writer = await asyncio.open_connection(parts.hostname, parts.port)
        for half in (pump(reader, upstream_writer), pump(upstream_reader, writer)):
            task = asyncio.create_task(half)
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = TlsProxy(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
