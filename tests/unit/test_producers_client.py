"""The client of apps, on the in-memory broker with a ledger that answers by the real rules."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.example_app.operations import ExampleAppOperations
from ledger.messages.command_ids import new_command_id
from ledger.operations import Registry
from ledger.testing.broker import InMemoryBroker, Operation
from producers import (
    ClientClosed,
    CommandRequest,
    InsufficientCredits,
    InvalidCommand,
    KafkaUnavailable,
    LedgerClient,
    NotPublished,
    Published,
    PublishInDoubt,
    SyncLedgerClient,
    TopicUnusable,
    outcome_wait,
    reopening_publisher,
    send_queue,
)
from tests.answering_ledger import PARTITIONS, TOPICS, AnsweringLedger, Faults, InMemoryConnection, answering_ledger

REGISTRY = Registry([ExampleAppOperations])
APP = "example-app"
COMMANDS = TOPICS.commands(APP)


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def fake(faults: Faults) -> AsyncIterator[AnsweringLedger]:
    async with answering_ledger(REGISTRY, InMemoryBroker(faults.step)) as ledger:
        yield ledger


@pytest.fixture
async def client(fake: AnsweringLedger) -> AsyncIterator[LedgerClient]:
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcome_wait, "RESEND_AFTER_FIRST_S", 0.01)
    monkeypatch.setattr(reopening_publisher, "REOPEN_PAUSE_FIRST_S", 0.001)
    monkeypatch.setattr(reopening_publisher, "REOPEN_PAUSE_MAX_S", 0.005)


def commands_in(broker: InMemoryBroker, partition: int) -> list[bytes | None]:
    return [record.value for record in broker.records(COMMANDS, partition)]


def all_commands(broker: InMemoryBroker) -> list[bytes | None]:
    return [value for partition in range(PARTITIONS) for value in commands_in(broker, partition)]


# publish


async def test_publish_tells_where_the_command_lies(client: LedgerClient, fake: AnsweringLedger) -> None:
    published = await client.publish("CREDIT_ADD", "alice", "n1", 5, metadata={"order": [1, "ü"]})
    assert published.topic == COMMANDS
    assert isinstance(published.command_id, UUID)
    assert published.command_id.version == 7
    record = fake.broker.records(COMMANDS, published.partition)[published.offset]
    assert record.key == b"alice"
    await client.submit("CREDIT_ADD", "alice", "n2")
    assert not fake.unreadable
    first = fake.commands[0]
    assert (first.command_id, first.amount, first.metadata) == (published.command_id, 5, '{"order":[1,"ü"]}')


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("owner_id", ""),
        ("owner_id", "x" * 129),
        ("owner_id", "a\0b"),
        ("owner_id", "\ud800"),
        ("nonce", ""),
        ("nonce", "x" * 129),
        ("operation", ""),
        ("amount", 2**63),
        ("amount", "5"),
        ("amount", 5.0),
        ("amount", True),
        ("credit_type", ""),
        ("metadata", {"x": "y" * 4096}),
        ("metadata", {"x": float("nan")}),
        ("metadata", {"x": object()}),
    ],
)
async def test_what_the_ledger_could_not_read_is_refused_before_it_is_sent(
    client: LedgerClient, fake: AnsweringLedger, field: str, value: object
) -> None:
    arguments: dict[str, object] = {"operation": "CREDIT_ADD", "owner_id": "alice", "nonce": "n1", field: value}
    with pytest.raises(InvalidCommand, match=field):
        await client.publish(**arguments)  # type: ignore[arg-type]
    assert all_commands(fake.broker) == []


@settings(max_examples=25, deadline=None)
@given(owners=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), buffered_max=st.integers(1, 8))
def test_calls_made_one_after_another_get_rising_offsets(owners: list[str], buffered_max: int) -> None:
    """Invariant 4, without awaiting in between, and with callers who wait for room in a tiny buffer."""

    async def run() -> list[Published]:
        async with (
            answering_ledger(REGISTRY) as fake,
            LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as client,
        ):
            calls = [
                asyncio.create_task(client.publish("CREDIT_ADD", owner, str(number)))
                for number, owner in enumerate(owners)
            ]
            return await asyncio.gather(*calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(send_queue, "BUFFERED_RECORDS_MAX", buffered_max)
        published = asyncio.run(run())
    for partition in range(PARTITIONS):
        offsets = [place.offset for place in published if place.partition == partition]
        assert offsets == list(range(len(offsets)))


async def test_a_batch_and_a_call_after_it_keep_their_order(
    client: LedgerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "BUFFERED_RECORDS_MAX", 2)
    batch = asyncio.create_task(client.publish_many(CommandRequest("CREDIT_ADD", "a", str(n)) for n in range(20)))
    await asyncio.sleep(0)
    single = asyncio.create_task(client.publish("CREDIT_ADD", "a", "last"))
    places = await batch
    assert [place.offset for place in places if isinstance(place, Published)] == list(range(20))
    assert (await single).offset == 20


async def test_publish_many_answers_each_in_order(client: LedgerClient) -> None:
    requests = [CommandRequest("CREDIT_ADD", owner, "n") for owner in ("a", "", "b", "x" * 200, "c")]
    results = await client.publish_many(requests)
    assert [type(result) for result in results] == [Published, InvalidCommand, Published, InvalidCommand, Published]


async def test_waiting_commands_travel_in_batches(client: LedgerClient, fake: AnsweringLedger, faults: Faults) -> None:
    batches = 0

    async def count(operation: Operation) -> None:
        nonlocal batches
        batches += operation == "publish"

    fake.broker._step = count
    await asyncio.gather(*(client.publish("CREDIT_ADD", "alice", str(n)) for n in range(200)))
    assert batches <= 2


# Kafka away


async def test_a_command_that_kafka_never_took_was_not_published(fake: AnsweringLedger, faults: Faults) -> None:
    faults.failing["start"] = 1_000_000
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker), publish_wait_s=0.3) as client:
        command_id = new_command_id()
        with pytest.raises(NotPublished, match="a fault at start") as caught:
            await client.publish("CREDIT_ADD", "a", "n", command_id=command_id)
        assert caught.value.command_id == command_id
        assert client.trouble is not None
        faults.failing.clear()
        await client.publish("CREDIT_ADD", "a", "n2")
        assert client.trouble is None
    assert len(all_commands(fake.broker)) == 1


async def test_callers_wait_for_room_and_are_told_when_there_is_none(
    fake: AnsweringLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "BUFFERED_RECORDS_MAX", 5)
    faults.failing["start"] = 1_000_000
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker), publish_wait_s=0.3) as client:
        results = await client.publish_many(CommandRequest("CREDIT_ADD", "a", str(n)) for n in range(6))
        assert all(isinstance(result, NotPublished) for result in results)
        faults.failing.clear()
        # The room of those who gave up is free again.
        results = await client.publish_many(CommandRequest("CREDIT_ADD", "a", str(n)) for n in range(6))
        assert [result.offset for result in results if isinstance(result, Published)] == list(range(6))


async def test_no_more_commands_wait_for_kafka_than_the_buffer_holds(
    fake: AnsweringLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(send_queue, "BUFFERED_RECORDS_MAX", 5)
    faults.failing["start"] = 1_000_000
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker), publish_wait_s=30) as client:
        publishing = asyncio.create_task(
            client.publish_many(CommandRequest("CREDIT_ADD", "a", str(number)) for number in range(12))
        )
        assert client._queue is not None
        for _ in range(50):
            await asyncio.sleep(0)
            assert client._queue._buffered <= 5
        assert client._queue._buffered == 5
        faults.failing.clear()
        results = await publishing
        assert [result.offset for result in results if isinstance(result, Published)] == list(range(12))


async def test_an_unacknowledged_command_is_in_doubt_and_a_retry_with_its_id_is_safe(
    client: LedgerClient, fake: AnsweringLedger, faults: Faults
) -> None:
    faults.failing["acknowledge"] = 1
    with pytest.raises(PublishInDoubt) as caught:
        await client.publish("CREDIT_ADD", "a", "n", 7)
    outcome = await client.submit("CREDIT_ADD", "a", "n", 7, command_id=caught.value.command_id)
    assert outcome.balance == 7
    assert len(fake.events) == 1
    assert len(fake.commands) == 2


async def test_a_command_that_was_handed_over_and_hangs_is_in_doubt(fake: AnsweringLedger, faults: Faults) -> None:
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker), publish_wait_s=0.05) as client:
        faults.holding["publish"] = asyncio.Event()
        with pytest.raises(PublishInDoubt, match="in time"):
            await client.publish("CREDIT_ADD", "a", "n")
        faults.holding.pop("publish").set()


async def test_commands_behind_a_failed_batch_are_published_by_the_next_producer(
    client: LedgerClient, fake: AnsweringLedger, faults: Faults
) -> None:
    faults.holding["publish"] = hold = asyncio.Event()
    faults.reached["publish"] = asyncio.Event()
    first = asyncio.create_task(client.publish("CREDIT_ADD", "a", "1"))
    await faults.reached["publish"].wait()
    others = [asyncio.create_task(client.publish("CREDIT_ADD", "a", str(n))) for n in range(2, 5)]
    await asyncio.sleep(0)
    faults.failing["publish"] = 1
    del faults.holding["publish"]
    hold.set()
    with pytest.raises(PublishInDoubt):
        await first
    assert [(await other).offset for other in others] == [0, 1, 2]


async def test_a_cancelled_call_that_was_not_handed_over_is_never_sent(fake: AnsweringLedger, faults: Faults) -> None:
    faults.failing["start"] = 1_000_000
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as client:
        call = asyncio.create_task(client.publish("CREDIT_ADD", "a", "gone"))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        faults.failing.clear()
        await client.publish("CREDIT_ADD", "a", "kept")
    assert len(all_commands(fake.broker)) == 1


async def test_leaving_the_client_sends_what_is_on_its_way(fake: AnsweringLedger) -> None:
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as client:
        calls = [asyncio.create_task(client.publish("CREDIT_ADD", "a", str(n))) for n in range(50)]
        await asyncio.sleep(0)
    assert [(await call).offset for call in calls] == list(range(50))


async def test_leaving_the_client_while_kafka_is_away_ends(
    fake: AnsweringLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producers.client.CLOSE_WAIT_S", 0.05)
    faults.failing["start"] = 1_000_000
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as client:
        call = asyncio.create_task(client.publish("CREDIT_ADD", "a", "n"))
        await asyncio.sleep(0)
    with pytest.raises(NotPublished, match="closed"):
        await call


async def test_kafka_away_at_the_start_is_a_clear_error() -> None:
    broker = InMemoryBroker()
    broker.available = False
    with pytest.raises(KafkaUnavailable, match="away"):
        async with LedgerClient(APP, connection=InMemoryConnection(broker)):
            pass


async def test_an_app_without_a_topic_is_told_what_to_do() -> None:
    with pytest.raises(TopicUnusable, match="ledger topics sync"):
        async with LedgerClient("nobody", connection=InMemoryConnection(InMemoryBroker())):
            pass


async def test_a_client_that_is_not_open_sends_nothing(fake: AnsweringLedger) -> None:
    client = LedgerClient(APP, connection=InMemoryConnection(fake.broker))
    with pytest.raises(ClientClosed, match="async with"):
        await client.publish("CREDIT_ADD", "a", "n")
    async with client:
        await client.publish("CREDIT_ADD", "a", "n")
    with pytest.raises(ClientClosed):
        await client.submit("CREDIT_ADD", "a", "n2")
    assert len(all_commands(fake.broker)) == 1


# the sync facade


def test_scripts_need_no_asyncio() -> None:
    """The facade runs its own loop; the fake ledger runs on that loop too, because the twin belongs to one loop."""

    class SelfServing(InMemoryConnection):
        """Brings its ledger up on whatever loop opens it."""

        async def partition_counts(self):  # type: ignore[no-untyped-def]
            self.running = answering_ledger(REGISTRY, self.broker)
            await self.running.__aenter__()
            return await super().partition_counts()

    with SyncLedgerClient(APP, connection=SelfServing(InMemoryBroker())) as ledger:
        assert ledger.publish("CREDIT_ADD", "alice", "1", 5).offset == 0
        assert ledger.submit("CREDIT_ADD", "alice", "2", 5).balance == 10
        [place] = ledger.publish_many([CommandRequest("CREDIT_ADD", "alice", "3", 5)])
        assert isinstance(place, Published)
        [refused] = ledger.submit_many([CommandRequest("CREDIT_SPEND", "alice", "4", -50)])
        assert isinstance(refused, InsufficientCredits)
    with pytest.raises(ClientClosed):
        ledger.publish("CREDIT_ADD", "alice", "5")
