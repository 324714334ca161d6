"""How an app tests what it does with the ledger: by the real rules, without a server."""

from collections.abc import AsyncIterator

import pytest

from docs.examples.bakery.checkout import pay
from docs.examples.bakery.in_memory_ledger import in_memory_ledger
from docs.examples.bakery.operations import BakeryOperations
from producers import LedgerClient


@pytest.fixture
async def ledger() -> AsyncIterator[LedgerClient]:
    async with (
        in_memory_ledger(BakeryOperations) as connection,
        LedgerClient("bakery", connection=connection) as client,
    ):
        yield client


def test_the_operations_are_declared_right() -> None:
    BakeryOperations.validate_operations()


async def test_an_order_is_paid_once(ledger: LedgerClient) -> None:
    await ledger.submit("GIFT_CARD", "mary", nonce="card-1", amount=100)

    assert await pay(ledger, "mary", "order-1", 60) == "paid, you have 40 left"
    assert (await pay(ledger, "mary", "order-1", 60)).startswith("order-1 is paid already")
    assert await pay(ledger, "mary", "order-2", 60) == "this costs 60, and you have 40"
