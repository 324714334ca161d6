"""The same subscriber beside the routes of a FastAPI app: `uvicorn docs.examples.welcome_in_fastapi:api`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException

from docs.examples.welcome import subscriber


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Events are handled while the app runs."""
    async with subscriber:
        yield


api = FastAPI(lifespan=lifespan)


@api.get("/health")
async def health() -> dict[str, int]:
    """How far each partition is; 503 as soon as one stands still."""
    for halt in subscriber.halts.values():
        raise HTTPException(503, str(halt))
    return {str(partition.partition): partition.sequence or 0 for partition in subscriber.health}
