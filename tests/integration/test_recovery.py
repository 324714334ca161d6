"""What stands still, and the commands by which an operator goes on, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import OutgoingRecord
from ledger.broker.topics_sync import sync_topics, wanted_topics
from ledger.domain.command import Command
from ledger.domain.decider import decide
from ledger.messages.command_codec import encode_command
from projections.registry import READ_MODELS
from projections.versions import install
from tests.cli_process import Ended, cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

APP = "example-app"

RECREATED_LIMIT_S: Final = 150.0
"""A broker that is busy with other tests takes its time to delete a topic."""

RECREATE_AGAIN_S: Final = 0.05


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


@pytest.fixture
async def kafka(kafka_bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    await client.start()
    yield client
    await client.close()


async def recover(ledger: LedgerOnServers, home: Path, *arguments: str) -> Ended:
    environment = cli_environment(ledger, home)
    return await ledger_cli("recover", *arguments, environment=environment, folder=home)


async def done(ledger: LedgerOnServers, home: Path, *arguments: str) -> None:
    ended = await recover(ledger, home, *arguments, "--reason", "a test", "--by", "grace", "--yes")
    assert ended.code == 0, ended.err


async def sound(ledger: LedgerOnServers, home: Path) -> None:
    verified = await ledger_cli("verify", environment=cli_environment(ledger, home))
    assert verified.code == 0, verified.out + verified.err


async def until_halted_for_the_app(ledger: LedgerOnServers, says: str) -> None:
    query = "SELECT count(*) > 0 FROM ledger.partition_head WHERE halted_apps LIKE $1"
    await ledger.until(query, True, f"%{says}%")


async def deleted(ledger: LedgerOnServers, kafka: AIOKafkaAdminClient, topic: str) -> None:
    await kafka.delete_topics([topic])
    async with asyncio.timeout(30):
        while topic in await ledger.admin.partition_counts():  # noqa: ASYNC110  (Kafka does not tell)
            await asyncio.sleep(0.1)


def owner_beside(ledger: LedgerOnServers, owner: str) -> str:
    return next(f"o{n}" for n in range(99) if ledger.partition(f"o{n}") != ledger.partition(owner))


async def test_commands_that_retention_removed_are_told_and_left_behind(
    ledger: LedgerOnServers, kafka: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    partition = ledger.partition("ada")
    async with ledger.running():
        await ledger.send(command("ada", "CREDIT_ADD", 1))
        await ledger.until_events(1)
        await ledger.until_published()
    await ledger.send(*(command("ada", "CREDIT_ADD", 10) for _ in range(3)))
    place = TopicPartition(ledger.topics.commands(APP), partition)
    await kafka.delete_records({place: RecordsToDelete(before_offset=3)})
    async with ledger.running():
        await until_halted_for_the_app(ledger, f"ledger recover offsets {APP}")
        await ledger.send(command(owner_beside(ledger, "ada"), "CREDIT_ADD", 1))
        await ledger.until_events(2)
        unasked = await recover(ledger, tmp_path, "offsets", APP, "--reason", "a test")
        assert (unasked.code, "2 offsets are lost (1 to 2)" in unasked.err) == (2, True), unasked.err
        refused = await recover(ledger, tmp_path, "topic", APP, "--reason", "a test", "--yes")
        assert (refused.code, "is the topic that was consumed" in refused.err) == (1, True), refused.err
        await done(ledger, tmp_path, "offsets", APP)
        await ledger.until_events(3)
        again = await recover(ledger, tmp_path, "offsets", APP, "--reason", "a test", "--yes")
        assert (again.code, "no log of" in again.err) == (1, True), again.err
        await ledger.until_published()
    await sound(ledger, tmp_path)


async def test_a_topic_that_was_recreated_begins_its_next_generation(
    ledger: LedgerOnServers, kafka: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    first = command("ada", "CREDIT_ADD", 1)
    async with ledger.running():
        await ledger.send(first, command("ada", "CREDIT_ADD", 2))
        await ledger.send_bytes(b"not json", b"ada")
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 1)
        await ledger.until_published()
    await deleted(ledger, kafka, ledger.topics.commands(APP))
    wanted = wanted_topics(ledger.topics, list(ledger.registry), ledger.partitions, 1, 1)
    await sync_topics(ledger.admin, wanted, ledger.topics)
    async with ledger.running():
        await until_halted_for_the_app(ledger, f"ledger recover topic {APP}")
        await done(ledger, tmp_path, "topic", APP)
        # The same offsets again, for events and for the quarantine; and what is sent again is answered, not doubled.
        await ledger.send(first, command("ada", "CREDIT_ADD", 4))
        await ledger.send_bytes(b"not json either", b"ada")
        await ledger.until("SELECT count(*) FROM ledger.quarantine", 2)
        await ledger.until_events(3)
        await ledger.until_published()
    await sound(ledger, tmp_path)
    listed = await ledger_cli("quarantine", "list", "--json", environment=cli_environment(ledger, tmp_path))
    here = f"{APP}:{ledger.partition('ada')}:2"
    assert [one["id"] for one in listed.document] == [here, f"{here}@2"]
    [deed] = (await recover(ledger, tmp_path, "list", "--json")).document
    assert (deed["kind"], deed["operator"], deed["reason"]) == ("begin-generation", "grace", "a test")


async def test_a_topic_that_is_recreated_at_once_with_more_records_halts_under_a_running_consumer(
    ledger: LedgerOnServers, kafka: AIOKafkaAdminClient, tmp_path: Path
) -> None:
    """The offset to be read next is in range again before anybody looks: only the record before it tells."""
    topic = ledger.topics.commands(APP)
    async with ledger.running() as consumer:
        await ledger.send(*(command("ada", "CREDIT_ADD", 1) for _ in range(2)))
        await ledger.until_events(2)
        await ledger.until_published()
        await kafka.delete_topics([topic])
        async with asyncio.timeout(RECREATED_LIMIT_S):
            # What happens wholly between two of its fetches nobody can see (docs/operating.md).
            while not consumer._leaderless:  # noqa: ASYNC110
                await asyncio.sleep(RECREATE_AGAIN_S)
            while True:
                created = await kafka.create_topics([NewTopic(topic, ledger.partitions, 1)])
                if all(error["error_code"] == 0 for error in created.to_object()["topic_errors"]):
                    break
                await asyncio.sleep(RECREATE_AGAIN_S)  # the old one is still being deleted
        again = KafkaPublisher(ledger.bootstrap)  # whose metadata are those of the new topic
        await again.start()
        records = [OutgoingRecord(b"ada", encode_command(command("ada", "CREDIT_ADD", 10))) for _ in range(5)]
        await again.publish(topic, ledger.partition("ada"), records)
        await again.stop()
        await until_halted_for_the_app(ledger, f"ledger recover topic {APP}")
        assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.event") == 2
        await done(ledger, tmp_path, "topic", APP)
        await ledger.until_events(7)
        await ledger.until_published()
    await sound(ledger, tmp_path)


async def test_a_record_that_cannot_be_decided_is_tried_again_or_put_aside(
    ledger: LedgerOnServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True

    def failing(one: Command, *rest: Any) -> Any:
        if broken and one.amount == 666:
            raise ZeroDivisionError("a defect of the rules")
        return decide(one, *rest)

    monkeypatch.setattr("consumers.batch.decide", failing)
    partition = ledger.partition("ada")
    async with ledger.running():
        await ledger.send(*(command("ada", "CREDIT_ADD", amount) for amount in (1, 666, 2)))
        halted = "SELECT halted_record FROM ledger.partition_head WHERE partition = $1"
        await ledger.until(halted, f"{APP}:{partition}:1", partition)
        await ledger.until_events(1)
        await ledger.send(command(owner_beside(ledger, "ada"), "CREDIT_ADD", 1))
        await ledger.until_events(2)
        status = await ledger_cli("status", environment=cli_environment(ledger, tmp_path))
        assert f"ledger recover record {APP}:{partition}:1" in status.out.replace("\n", " ")
        wrong = await recover(ledger, tmp_path, "record", f"{APP}:{partition}:0", "--reason", "x", "--yes")
        assert (wrong.code, "does not stand at" in wrong.err) == (1, True), wrong.err
        await done(ledger, tmp_path, "record", f"{APP}:{partition}:1")
        await ledger.until_events(3)
        row = await ledger.pool.fetchrow("SELECT * FROM ledger.quarantine")
        assert row is not None
        assert (row["reason"], row["command_offset"], row["status"]) == ("SET_ASIDE", 1, "waiting")

        await ledger.send(command("ada", "CREDIT_ADD", 666))
        await ledger.until(halted, f"{APP}:{partition}:3", partition)
        broken = False  # a version that can decide it was deployed
        await done(ledger, tmp_path, "partition", str(partition))
        await ledger.until_events(4)
        await ledger.until_published()
        status = await ledger_cli("status", environment=cli_environment(ledger, tmp_path))
        assert "last intervention: number 2" in status.out, status.out
        unhalted = await recover(ledger, tmp_path, "partition", str(partition), "--reason", "x", "--yes")
        assert (unhalted.code, "is not halted" in unhalted.err) == (1, True), unhalted.err
    await sound(ledger, tmp_path)
