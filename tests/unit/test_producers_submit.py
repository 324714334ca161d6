"""Waiting for outcomes, on the in-memory broker with a ledger that answers by the real rules."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from apps.example_app.operations import ExampleAppOperations
from ledger.broker.protocol import TopicPartition
from ledger.broker.tail_reader import TailReader
from ledger.messages.command_ids import new_command_id
from ledger.operations import Registry
from ledger.testing.broker import InMemoryBroker, Operation
from producers import (
    CommandRequest,
    DuplicateNonce,
    InsufficientCredits,
    InvalidAmount,
    InvalidCommand,
    KafkaUnavailable,
    LedgerClient,
    LedgerError,
    Outcome,
    OutcomeUnknown,
    PublishInDoubt,
    UnknownOperation,
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


def tail_of(client: LedgerClient) -> TailReader:
    assert client._follower is not None
    assert isinstance(client._follower._tail, TailReader)
    return client._follower._tail


async def test_submit_gives_the_entry_and_the_balance(client: LedgerClient) -> None:
    first = await client.submit("CREDIT_ADD", "alice", "top-up", 100)
    second = await client.submit("CREDIT_SPEND", "alice", "order", -30)
    assert (first.balance, second.balance) == (100, 70)
    assert second.event.amount == -30
    assert second.position.partition == first.position.partition
    assert second.position.sequence > first.position.sequence


async def test_the_waiter_is_registered_before_the_command_is_published(
    client: LedgerClient, fake: AnsweringLedger
) -> None:
    """Otherwise a quick answer could pass unseen."""
    await client.follow_outcomes()
    tail = tail_of(client)
    waiters_at_publication = []

    async def look(operation: Operation) -> None:
        if operation == "publish":
            waiters_at_publication.append(tail.waiters)

    fake.broker._step = look
    await client.submit("CREDIT_ADD", "alice", "1")
    await client.submit_many([CommandRequest("CREDIT_ADD", "alice", str(number)) for number in range(2, 5)])
    assert waiters_at_publication == [1, 3]
    assert tail.waiters == 0


async def test_each_refusal_is_an_exception_of_its_own(client: LedgerClient) -> None:
    accepted = await client.submit("CREDIT_ADD", "alice", "top-up", 3)
    with pytest.raises(InsufficientCredits) as poor:
        await client.submit("CREDIT_SPEND", "alice", "order", -250)
    assert (poor.value.available, poor.value.needed) == (3, 250)
    with pytest.raises(DuplicateNonce) as twice:
        await client.submit("CREDIT_ADD", "alice", "top-up", 3)
    assert twice.value.original == accepted.position
    with pytest.raises(UnknownOperation):
        await client.submit("CREDIT_SPNED", "alice", "x")
    with pytest.raises(InvalidAmount, match="must be negative, got 5"):
        await client.submit("CREDIT_SPEND", "alice", "x", 5)
    with pytest.raises(LedgerError):
        await client.submit("CREDIT_SPEND", "alice", "x", -1, credit_type="gold")


async def test_the_same_command_id_is_answered_by_the_first_decision(
    client: LedgerClient, fake: AnsweringLedger
) -> None:
    command_id = new_command_id()
    first = await client.submit("CREDIT_ADD", "alice", "n", 5, command_id=command_id)
    again = await client.submit("CREDIT_ADD", "alice", "n", 5, command_id=command_id)
    assert again.event == first.event
    assert not first.replayed
    assert again.replayed
    assert len(fake.events) == 1


async def test_two_at_once_with_one_command_id_get_the_same_answer(client: LedgerClient, fake: AnsweringLedger) -> None:
    command_id = new_command_id()
    calls = [client.submit("CREDIT_ADD", "alice", "n", 5, command_id=command_id) for _ in range(2)]
    first, second = await asyncio.gather(*calls)
    assert first.event == second.event
    assert len(fake.events) == 1


async def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(
    client: LedgerClient, fake: AnsweringLedger
) -> None:
    fake.lost_answers = 2
    outcome = await client.submit("CREDIT_ADD", "alice", "n", 5)
    assert outcome.balance == 5
    sent = all_commands(fake.broker)
    assert len(sent) == 3
    assert len(set(sent)) == 1


async def test_no_answer_in_time_is_an_unknown_outcome_with_the_command_id(
    client: LedgerClient, fake: AnsweringLedger
) -> None:
    fake.answering.clear()
    with pytest.raises(OutcomeUnknown) as caught:
        await client.submit("CREDIT_ADD", "alice", "n", 5, wait_s=0.1)
    assert not isinstance(caught.value, PublishInDoubt)
    assert caught.value.published is not None
    assert caught.value.published.offset == 0
    fake.answering.set()
    outcome = await client.submit("CREDIT_ADD", "alice", "n", 5, command_id=caught.value.command_id)
    assert outcome.balance == 5
    assert len(fake.events) == 1


async def test_submit_goes_on_after_a_publication_in_doubt(
    client: LedgerClient, fake: AnsweringLedger, faults: Faults
) -> None:
    faults.failing["publish"] = 2
    outcome = await client.submit("CREDIT_ADD", "alice", "n", 5)
    assert outcome.balance == 5
    assert len(fake.events) == 1


async def test_submit_that_is_never_acknowledged_is_in_doubt(client: LedgerClient, faults: Faults) -> None:
    faults.failing["publish"] = 1_000_000
    with pytest.raises(PublishInDoubt):
        await client.submit("CREDIT_ADD", "alice", "n", 5, wait_s=0.1)


async def test_submit_without_kafka_was_not_published(fake: AnsweringLedger, client: LedgerClient) -> None:
    fake.broker.available = False
    with pytest.raises(KafkaUnavailable):
        await client.submit("CREDIT_ADD", "alice", "n", 5, wait_s=0.1)
    fake.broker.available = True


async def test_submit_many_answers_each_in_order(client: LedgerClient) -> None:
    results = await client.submit_many(
        [
            CommandRequest("CREDIT_ADD", "alice", "1", 10),
            CommandRequest("CREDIT_SPEND", "alice", "2", -11),
            CommandRequest("CREDIT_SPEND", "", "3", -1),
            CommandRequest("CREDIT_SPEND", "alice", "4", -10),
            CommandRequest("CREDIT_ADD", "bob", "1", 1),
        ]
    )
    assert [type(result) for result in results] == [Outcome, InsufficientCredits, InvalidCommand, Outcome, Outcome]
    assert [result.balance for result in results if isinstance(result, Outcome)] == [10, 0, 1]


async def test_more_than_one_slice_is_answered(client: LedgerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producers.client.ADMITTED_AT_ONCE_MAX", 7)
    monkeypatch.setattr("producers.client.SLICES_AWAITED_MAX", 2)
    results = await client.submit_many(CommandRequest("CREDIT_ADD", f"u{n % 5}", str(n), 1) for n in range(100))
    assert sorted(result.balance for result in results if isinstance(result, Outcome)) == sorted(
        balance for balance in range(1, 21) for _ in range(5)
    )


async def test_a_cancelled_call_leaves_no_waiter_behind(
    client: LedgerClient, fake: AnsweringLedger, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.follow_outcomes()
    monkeypatch.setattr(send_queue, "BUFFERED_RECORDS_MAX", 1)
    monkeypatch.setattr("producers.client.ADMITTED_AT_ONCE_MAX", 2)
    faults.holding["publish"] = asyncio.Event()
    faults.reached["publish"] = asyncio.Event()
    calls = [
        asyncio.create_task(client.submit_many(CommandRequest("CREDIT_ADD", "a", str(n)) for n in range(6))),
        asyncio.create_task(client.submit("CREDIT_ADD", "a", "single")),
    ]
    await faults.reached["publish"].wait()
    assert tail_of(client).waiters > 0
    for call in calls:
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert tail_of(client).waiters == 0
    faults.holding.pop("publish").set()


async def test_leaving_the_client_ends_those_who_wait_for_outcomes(fake: AnsweringLedger) -> None:
    fake.answering.clear()
    async with LedgerClient(APP, connection=InMemoryConnection(fake.broker)) as client:
        await client.follow_outcomes()
        call = asyncio.create_task(client.submit("CREDIT_ADD", "a", "n"))
        await fake.broker.arrival([TopicPartition(COMMANDS, partition) for partition in range(PARTITIONS)], 5)
    with pytest.raises(OutcomeUnknown) as caught:
        await call
    assert caught.value.published is not None
