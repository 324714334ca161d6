"""Has every event of the record published again, on an empty topic."""

from collections.abc import Sequence
from typing import Final

import asyncpg

from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.topics_sync import sync_topics
from ledger.event_store.interventions import Deed, Intervention, publish_again
from ledger.event_store.verification import read_heads
from projections.registry import READ_MODELS
from projections.versions import OnProgress, rebuild
from service.republishing.lost_events import LostTail, OnLost, find_lost
from service.wiring import Wiring

GIVEN_UP: Final = "restored"
"""The kind of intervention that gives up lost events; `republish` is the one that gives up nothing."""


class RepublishRefusedError(Exception):
    """Nothing was changed. The text says what to do first."""


async def require_nobody_at_work(wiring: Wiring, admin: KafkaTopicAdmin) -> None:
    """Raises RepublishRefusedError while a ledger consumer or a projection worker is in its group (a killed one stays
    for the session timeout), BrokerUnavailableError."""
    members = await admin.members([wiring.topics.consumer_group, wiring.topics.projection_group()])
    if members:
        raise RepublishRefusedError(
            f"ledger consumers or projection workers run: {'; '.join(members)}. Stop all of them (and the HTTP "
            "services), wait ten seconds, then try again"
        )


async def lost_tails(wiring: Wiring, connection: asyncpg.Connection, on_lost: OnLost) -> list[LostTail]:
    """What `ledger.events` holds that the record lacks; the topic may be missing. Raises BrokerUnavailableError."""
    heads = {partition: head.sequence for partition, head in (await read_heads(connection)).items()}
    reader = wiring.reader()
    await reader.start()
    try:
        if wiring.topics.events not in await reader.partition_counts():
            return []
        return await find_lost(reader, connection, wiring.topics.events, heads, on_lost)
    finally:
        await reader.stop()


async def publish_everything_again(
    wiring: Wiring,
    admin: KafkaTopicAdmin,
    connection: asyncpg.Connection,
    deed: Deed,
    given_up: Sequence[LostTail],
) -> Intervention:
    """Note it, and empty the topics that the record is published on; the next ledger consumers publish it.

    The note comes first: cut short after it, the topic still holds what contradicts the record, a consumer that starts
    halts, and all of this is done again.

    Raises:
        BrokerUnavailableError: do it again.
    """
    partitions = sorted((await read_heads(connection)).keys())
    await sync_topics(admin, wiring.wanted_topics(len(partitions)), wiring.topics)
    done = await publish_again(
        connection,
        partitions,
        deed,
        kind=GIVEN_UP if given_up else "republish",
        given_up={str(tail.partition): str(tail) for tail in given_up},
    )
    for topic in (wiring.topics.events, wiring.topics.replays):
        await admin.empty(topic, len(partitions))
    return done


async def rebuild_read_models(database_url: str, on_progress: OnProgress) -> None:
    """From the record, wherever they were. Raises RebuildError; the command may be given again."""
    for model in READ_MODELS:
        await rebuild(database_url, model, on_progress, after_restore=True)
