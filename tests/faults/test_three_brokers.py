"""Three Kafka brokers, three copies, two in sync: one is killed under load, and then another."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord, PublishError
from ledger.messages.command_codec import encode_command
from projections.registry import READ_MODELS
from projections.versions import install
from service.stack.interface import StackError
from service.stack.local_kafka import LocalKafka
from service.stack.local_kafka_cluster import LocalKafkaCluster, port_names
from service.stack.ports import choose_free
from service.stack.resolver import default_cache
from tests.consumer_process import consumer_process
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projection_process import projection_process
from tests.projections_on_servers import assert_read_models_equal_the_fold, until_projected
from tests.servers import say, server_home
from tests.steady_load import GOES_ON_WITHIN_S, SteadyLoad, assert_nothing_lost_or_doubled, steady_load

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

OWNERS = [f"owner-{number}" for number in range(24)]
BROKERS = 3


@pytest.fixture(scope="module")
def brokers() -> Iterator[LocalKafkaCluster]:
    with server_home() as home:
        names = port_names(BROKERS)
        ports = dict(zip(names, choose_free(len(names)), strict=True))
        cluster = LocalKafkaCluster(home, default_cache(), ports, BROKERS)
        try:
            yield cluster
        finally:
            for broker in cluster.brokers:
                asyncio.run(broker.process.stop([]))  # by force: nothing of it is needed any more


@pytest.fixture
async def cluster(brokers: LocalKafkaCluster) -> LocalKafkaCluster:
    """All of them run."""
    try:
        await brokers.start(say)
    except StackError as error:
        pytest.skip(f"no local Kafka: {error}")
    return brokers


@pytest.fixture
async def ledger(cluster: LocalKafkaCluster, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(cluster.address, empty_database_url, partitions=6, copies=(3, 2)) as running:
        await install(empty_database_url, READ_MODELS)
        yield running


async def leaders(ledger: LedgerOnServers) -> Counter[int]:
    """How many partitions of the topics of commands and events each broker leads, by its number."""
    admin = AIOKafkaAdminClient(bootstrap_servers=ledger.bootstrap)
    await admin.start()
    try:
        topics = await admin.describe_topics([ledger.topics.commands("example-app"), ledger.topics.events])
        return Counter(partition["leader"] for topic in topics for partition in topic["partitions"])
    finally:
        await admin.close()


def kill(broker: LocalKafka) -> float:
    """kill -9; when."""
    assert broker.process.pid is not None
    psutil.Process(broker.process.pid).kill()
    return time.monotonic()


def say_silence(what: str, load: SteadyLoad, since: float, all_went_on_s: float) -> None:
    acknowledged_s, answered_s = load.longest_silence_s(since)
    say(
        f"{what}: no acknowledgement for {acknowledged_s:.1f} s, no outcome for {answered_s:.1f} s, "
        f"every owner went on after {all_went_on_s:.1f} s"
    )


async def test_the_leader_of_several_partitions_is_killed_under_load(
    cluster: LocalKafkaCluster, ledger: LedgerOnServers
) -> None:
    with consumer_process(ledger, "one"), projection_process(ledger, "one"):
        async with steady_load(ledger, OWNERS) as load:
            await load.until_more()
            [(number, led)] = (await leaders(ledger)).most_common(1)
            assert led >= 3
            killed_at = kill(cluster.brokers[number - 1])
            all_went_on_s = await load.until_every_owner_goes_on(killed_at)
            await load.until_more()
            say_silence(f"the leader of {led} partitions of 12 was killed", load, killed_at, all_went_on_s)
            assert number not in await leaders(ledger)
            back_at = time.monotonic()
            await cluster.brokers[number - 1].start(say)
            await load.until_more()
            say(f"it is back after {time.monotonic() - back_at:.1f} s, with {len(load.acknowledged)} commands by then")
        found = await assert_nothing_lost_or_doubled(ledger, load)
        assert (found.topic_records or 0) >= len(load.acknowledged)
        await until_projected(ledger, len(load.acknowledged))
        await assert_read_models_equal_the_fold(ledger)


async def test_nothing_is_acknowledged_falsely_while_one_broker_is_left(
    cluster: LocalKafkaCluster, ledger: LedgerOnServers
) -> None:
    with consumer_process(ledger, "one"):
        before = command("ada", "CREDIT_ADD", 1)
        await ledger.send(before)
        await ledger.until_events(1)
        for broker in cluster.brokers[1:]:
            kill(broker)
        later = command("ada", "CREDIT_ADD", 2)
        record = OutgoingRecord(b"ada", encode_command(later))
        place = ledger.topics.commands("example-app"), ledger.partition("ada")
        with pytest.raises(PublishError) as error:
            await ledger.publisher.publish(*place, [record])
        say(f"with one broker of three left: {error.value}")
        await cluster.brokers[1].start(say)
        began_at = time.monotonic()
        while True:  # as an app would: the same bytes again, until they are acknowledged
            publisher = KafkaPublisher(ledger.bootstrap)
            try:
                await publisher.start()
                await publisher.publish(*place, [record])
                break
            except PublishError:
                if time.monotonic() - began_at > GOES_ON_WITHIN_S:
                    raise
                await asyncio.sleep(0.2)
            finally:
                await publisher.stop()
        say(f"acknowledged {time.monotonic() - began_at:.1f} s after the second broker came back")
        await ledger.until_events(2)
        assert [event.command_id for event in await ledger.events()] == [before.command_id, later.command_id]
