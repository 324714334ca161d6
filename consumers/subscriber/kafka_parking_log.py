"""Appending to `ledger.parked.<app>` on Kafka."""

from collections.abc import Callable
from typing import Final

from consumers.subscriber.errors import ParkingUnavailableError
from consumers.subscriber.parking import ParkingRecord, encode_parking_record
from ledger.broker.protocol import BrokerUnavailableError, OutgoingRecord, Publisher, PublishError

CLIENT_ID: Final = "ledger-subscriber"


class KafkaParkingLog:
    """ParkingLog on the real topic. Publishers are opened when they are needed, as parking is rare, and a publisher
    whose publication failed is at its end."""

    def __init__(self, topic: str, open_publisher: Callable[[], Publisher]) -> None:
        self._topic = topic
        self._open_publisher = open_publisher
        self._publisher: Publisher | None = None

    async def append(self, partition: int, record: ParkingRecord) -> int:
        """Append and return the offset once all in-sync replicas have it. Raises ParkingUnavailableError."""
        outgoing = OutgoingRecord(record.owner_id.encode(), encode_parking_record(record))
        try:
            if self._publisher is None:
                publisher = self._open_publisher()
                await publisher.start()
                self._publisher = publisher
            return await self._publisher.publish(self._topic, partition, [outgoing])
        except (BrokerUnavailableError, PublishError) as error:
            await self.stop()
            raise ParkingUnavailableError(f"{self._topic}: {error}") from error

    async def stop(self) -> None:
        """Disconnect, within a limit; never raises."""
        publisher, self._publisher = self._publisher, None
        if publisher is not None:
            await publisher.stop()
