"""A ledger that takes over a history starts with topics of its own: what lies on old ones is of other positions."""

from ledger.broker.protocol import TopicPartition
from service.moving.placing import ImportRefusedError
from service.wiring import Wiring


async def require_new_topics(wiring: Wiring) -> None:
    """The topics of the events and of the commands are missing yet, or empty.

    Raises:
        ImportRefusedError: one of them holds records.
        BrokerUnavailableError: Kafka is away.
    """
    topics = wiring.topics
    reader = wiring.reader()
    await reader.start()
    try:
        counts = await reader.partition_counts()
        ours = [topic for topic in counts if topic == topics.events or topics.app_of(topic) is not None]
        places = [TopicPartition(topic, partition) for topic in ours for partition in range(counts[topic])]
        used = sorted({place.topic for place, bound in (await reader.bounds(places)).items() if bound.end})
    finally:
        await reader.stop()
    if used:
        raise ImportRefusedError(
            f"{', '.join(used)} hold records already: give the new ledger topics of its own, by LEDGER_TOPIC_PREFIX or "
            "on another cluster"
        )
