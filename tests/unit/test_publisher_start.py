"""What is left of a publisher whose start was cancelled: nothing."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from ledger.broker import kafka_publisher
from ledger.broker.kafka_publisher import KafkaPublisher


class HangingProducer:
    """A producer that connects and never gets a producer id."""

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.sending = asyncio.create_task(asyncio.Event().wait())
        self.client_closed = self.stopped = False
        self._sender = SimpleNamespace(sender_task=self.sending)
        self.client = SimpleNamespace(close=self._close_client)

    async def start(self) -> None:
        self.connected.set()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True

    async def _close_client(self) -> None:
        self.client_closed = True


@pytest.mark.parametrize("stopped_then", [True, False], ids=["stopped then", "forgotten"])
async def test_a_cancelled_start_leaves_no_producer_and_no_connection(
    monkeypatch: pytest.MonkeyPatch, stopped_then: bool
) -> None:
    producer = HangingProducer()

    def made(**_: Any) -> HangingProducer:
        return producer

    monkeypatch.setattr(kafka_publisher, "AIOKafkaProducer", made)
    publisher = KafkaPublisher("nowhere:1")
    starting = asyncio.create_task(publisher.start())
    await producer.connected.wait()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    if stopped_then:
        await publisher.stop()
    else:
        async with asyncio.timeout(10):
            while not producer.stopped:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
    assert producer.client_closed
    assert producer.stopped
    assert producer.sending.cancelled()
