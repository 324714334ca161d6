"""What this system grew out of: a FastAPI service on SQLAlchemy that keeps entries and sums them for every balance.

Written as one would write it today: asynchronous, typed, with the pool and the indexes that it needs. As in the
original, nothing locks an owner: two spendings at the same moment can both see the same balance. Run by uvicorn in a
process of its own, see `benchmarks.http`.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.commands import owner_id as owner_name

POOL_CONNECTIONS: Final = 16
OPERATIONS: Final = frozenset({"DAILY_REWARD", "SIGNUP_CREDIT", "CREDIT_SPEND", "CREDIT_ADD"})

_url = os.environ["BENCH_ANCESTOR_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://", 1)
engine: Final = create_async_engine(_url, pool_size=POOL_CONNECTIONS, max_overflow=0)
sessions: Final = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    """All tables."""


class LedgerEntry(Base):
    """One entry."""

    __tablename__ = "ledger_entries"

    id: Mapped[int] = mapped_column(primary_key=True)
    operation: Mapped[str]
    owner_id: Mapped[str] = mapped_column(index=True)
    amount: Mapped[int]
    nonce: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now())


class EntryRequest(BaseModel):
    """What is posted."""

    operation: str
    owner_id: str
    nonce: str
    amount: int


class Entry(EntryRequest):
    """What is answered."""

    id: int
    created_at: datetime
    updated_at: datetime


class Posted(BaseModel):
    """An entry, and the balance after it."""

    entry: Entry
    balance: int


class Balance(BaseModel):
    """An owner's balance."""

    balance: int
    last_updated: datetime | None


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Make the table, with entries of every owner."""
    owners, entries = int(os.environ["BENCH_ANCESTOR_OWNERS"]), int(os.environ["BENCH_ANCESTOR_ENTRIES"])
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        for number in range(entries):
            rows = [
                {"operation": "CREDIT_ADD", "owner_id": owner_name(owner), "nonce": f"{owner}-{number}", "amount": 10}
                for owner in range(owners)
            ]
            await connection.execute(insert(LedgerEntry), rows)
    yield
    await engine.dispose()


async def session_of_request() -> AsyncIterator[AsyncSession]:
    """One for each request."""
    async with sessions() as session:
        yield session


app: Final = FastAPI(lifespan=lifespan)
Session = Annotated[AsyncSession, Depends(session_of_request)]


@app.get("/balance/{owner_id}")
async def balance(owner_id: str, session: Session) -> Balance:
    """The sum of an owner's entries."""
    found = await session.execute(
        select(func.coalesce(func.sum(LedgerEntry.amount), 0), func.max(LedgerEntry.created_at)).where(
            LedgerEntry.owner_id == owner_id
        )
    )
    total, last_updated = found.one()
    return Balance(balance=total, last_updated=last_updated)


@app.post("/ledger/entry")
async def post_entry(request: EntryRequest, session: Session) -> Posted:
    """Post an entry, if its nonce is new and the balance suffices."""
    if request.operation not in OPERATIONS:
        raise HTTPException(400, f"Invalid operation: {request.operation}")
    if await session.scalar(select(LedgerEntry.id).where(LedgerEntry.nonce == request.nonce)) is not None:
        raise HTTPException(400, f"Transaction with nonce {request.nonce} already exists")
    total = await session.scalar(
        select(func.coalesce(func.sum(LedgerEntry.amount), 0)).where(LedgerEntry.owner_id == request.owner_id)
    )
    available = int(total or 0)
    if available + request.amount < 0:
        raise HTTPException(400, f"Insufficient credits: {available} available, {-request.amount} needed")
    entry = LedgerEntry(**request.model_dump())
    session.add(entry)
    try:
        await session.commit()
    except IntegrityError as error:
        raise HTTPException(400, f"Transaction with nonce {request.nonce} already exists") from error
    answered = Entry.model_validate(entry, from_attributes=True)
    return Posted(entry=answered, balance=available + request.amount)
