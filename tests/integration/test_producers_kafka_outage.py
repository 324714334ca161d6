"""A client whose Kafka is killed and comes back: what it says of each command is true."""

import asyncio
import os
import signal
import uuid
from collections.abc import Iterator
from uuid import UUID

import httpx
import msgspec
import pytest
from fastapi import FastAPI

from ledger.broker import kafka_publisher
from ledger.broker.kafka_admin import KafkaTopicAdmin
from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import TopicPartition, TopicSpec
from ledger.messages.command_ids import new_command_id
from ledger.messages.topics import Topics
from producers import KafkaUnavailable, LedgerClient, LedgerError, NotPublished, Published, PublishInDoubt
from producers.http_answers import HttpAnswers
from producers.http_router import command_router
from service.stack.local_kafka import LocalKafka
from service.stack.ports import choose_free
from service.stack.resolver import default_cache
from tests.greetings import Lines
from tests.servers import server_home

# Killing and restarting a broker of its own takes half a minute: in `make test-all` and in CI.
pytestmark = [pytest.mark.integration, pytest.mark.slow]
APP = "shop"
PARTITIONS = 3
CALLERS = 30
PUBLISHED_BEFORE = 300
PUBLISHED_AFTER = 300
FAILED_MEANWHILE = 2 * CALLERS
HTTP_WAIT_S = 1.0
LIMIT_S = 40.0
NOT_PUBLISHED = {"detail": "the command was not published: Kafka is away"}


@pytest.fixture
def kafka() -> Iterator[LocalKafka]:
    """A broker of this test's own, which it may kill."""
    with server_home() as home:
        mortal = LocalKafka(home / "kafka", default_cache(), *choose_free(2))
        yield mortal
        asyncio.run(mortal.stop(Lines()))


class Callers:
    """Publish one command after another, and keep what they were told of each."""

    def __init__(self, client: LedgerClient) -> None:
        self.told: dict[UUID, Published | LedgerError] = {}
        self._client = client
        self._changed = asyncio.Condition()
        self.stopping = False

    async def run(self, owner_id: str) -> None:
        while not self.stopping:
            command_id = new_command_id()
            try:
                self.told[command_id] = await self._client.publish(
                    "CREDIT_ADD", owner_id, str(command_id), command_id=command_id
                )
            except LedgerError as error:
                self.told[command_id] = error
            async with self._changed:
                self._changed.notify_all()

    def count(self, kind: type[Published] | type[LedgerError]) -> int:
        return sum(isinstance(told, kind) for told in self.told.values())

    async def until(self, kind: type[Published] | type[LedgerError], count: int) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(lambda: self.count(kind) >= count)


async def logged(kafka: LocalKafka, topic: str) -> dict[tuple[int, int], UUID]:
    """The command id at every place of the topic."""
    reader = KafkaRecordReader(kafka.address)
    await reader.start()
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]
    bounds = await reader.bounds(places)
    reader.assign({place: bounds[place].start for place in places})
    found: dict[tuple[int, int], UUID] = {}
    while len(found) < sum(bound.end - bound.start for bound in bounds.values()):
        for record in await reader.poll(10_000, 1.0):
            found[record.partition, record.offset] = UUID(msgspec.json.decode(record.value or b"")["command_id"])
    await reader.stop()
    return found


async def test_http_says_503_while_kafka_is_away_and_goes_on_when_it_is_back(kafka: LocalKafka) -> None:
    await kafka.start(Lines())
    topics = await topics_on(kafka)
    client = LedgerClient(APP, kafka.address, topic_prefix=topics.prefix)
    app = FastAPI()
    app.include_router(command_router(HttpAnswers(client, lambda position, owner_id: None, HTTP_WAIT_S)))
    transport = httpx.ASGITransport(app)
    command = {"operation": "CREDIT_ADD", "owner_id": "ada", "nonce": "n"}
    async with client, httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        # No ledger runs: a command that is in Kafka answers 202.
        assert (await http.post("/ledger", json=command)).status_code == 202
        assert kafka.process.pid is not None
        os.kill(kafka.process.pid, signal.SIGKILL)
        first = await http.post("/ledger", json=command)
        assert first.status_code == 503
        assert "may or may not be carried out" in first.json()["detail"]
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (answer := await http.post("/ledger", json=command)).json() != NOT_PUBLISHED:
            assert answer.status_code == 503
            assert loop.time() - begun < LIMIT_S, answer.json()
        assert answer.headers["Retry-After"] == "1"
        await kafka.start(Lines())
        begun = loop.time()
        while (await http.post("/ledger", json=command)).status_code != 202:
            assert loop.time() - begun < LIMIT_S


async def topics_on(kafka: LocalKafka) -> Topics:
    """New topics under a prefix of their own."""
    topics = Topics(f"t{uuid.uuid4().hex[:12]}")
    async with KafkaTopicAdmin(kafka.address) as admin:
        await admin.create(
            [TopicSpec(name, PARTITIONS, 1, -1) for name in (topics.commands(APP), topics.events, topics.replays)]
        )
    return topics


async def test_what_is_said_of_each_command_is_true_when_kafka_dies_and_comes_back(
    kafka: LocalKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_publisher, "ACKNOWLEDGE_LIMIT_S", 2.0)
    await kafka.start(Lines())
    topics = await topics_on(kafka)
    topic = topics.commands(APP)
    async with LedgerClient(APP, kafka.address, topic_prefix=topics.prefix, publish_wait_s=1.0) as client:
        callers = Callers(client)
        running = [asyncio.create_task(callers.run(f"owner-{number}")) for number in range(CALLERS)]
        await callers.until(Published, PUBLISHED_BEFORE)
        assert kafka.process.pid is not None
        os.kill(kafka.process.pid, signal.SIGKILL)
        await callers.until(NotPublished, FAILED_MEANWHILE)
        assert client.trouble is not None
        with pytest.raises(KafkaUnavailable):
            await client.probe_kafka()
        before = callers.count(Published)
        await kafka.start(Lines())
        await callers.until(Published, before + PUBLISHED_AFTER)
        assert client.trouble is None
        callers.stopping = True
        await asyncio.gather(*running)
        in_doubt = [command_id for command_id, told in callers.told.items() if isinstance(told, PublishInDoubt)]
        assert in_doubt, "the kill hit no publication: nothing was tested"
        again = [await client.publish("CREDIT_ADD", "owner-0", "again", command_id=one) for one in in_doubt[:1]]
    log = await logged(kafka, topic)
    for command_id, told in callers.told.items():
        if isinstance(told, Published):
            assert log[told.partition, told.offset] == command_id
        elif isinstance(told, NotPublished):
            assert command_id not in log.values()
        else:
            assert isinstance(told, PublishInDoubt)
    assert log[again[0].partition, again[0].offset] == in_doubt[0]
    # Without in-doubt ones, nothing lies in Kafka that was not told as published.
    told_published = {command_id for command_id, told in callers.told.items() if isinstance(told, Published)}
    assert set(log.values()) - told_published <= set(in_doubt)
