"""What a forged event does where no rights (ACLs) keep anybody from writing `ledger.events`: docs/operating.md says it.

The record cannot be forged from Kafka. Who can ask the record notices; who sees the topic alone is deceived, which is
why nobody but the ledger may write it.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest

from consumers.subscriber import DivergedError, EventChain
from consumers.subscriber.sequence_guard import BEGINNING, SequenceGuard
from ledger.broker.protocol import OutgoingRecord
from ledger.domain.event import RecordedEvent
from ledger.messages.command_ids import new_command_id
from ledger.messages.event_codec import encode_event
from producers import LedgerClient
from projections.registry import READ_MODELS
from projections.versions import install
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected

pytestmark = pytest.mark.integration


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as made:
        await install(empty_database_url, READ_MODELS)
        yield made


def forged_after(event: RecordedEvent) -> RecordedEvent:
    """What a forger who reads the topic writes: everything fits, also the chain."""
    return msgspec.structs.replace(
        event,
        sequence=event.sequence + 1,
        command_id=new_command_id(),
        amount=1_000_000,
        balance_after=event.balance_after + 1_000_000,
        account_version=event.account_version + 1,
        nonce="forged",
        prev_hash=event.hash,
        hash="f" * 64,
    )


async def test_the_read_models_refuse_what_the_record_does_not_hold(ledger: LedgerOnServers) -> None:
    async with ledger.running(), projecting(ledger):
        await ledger.send(command("ada", amount=5))
        await ledger.until_events(1)
        await until_projected(ledger, 1)
        [event] = await ledger.events()
        await ledger.publisher.publish(ledger.topics.events, event.partition, [_record(forged_after(event))])
        await ledger.until(
            "SELECT count(*) FROM projections.checkpoint WHERE halted_because IS NOT NULL", len(READ_MODELS)
        )
        await ledger.until("SELECT sum(balance)::bigint FROM projections.balances_v1 WHERE owner_id = 'ada'", 5)


async def test_the_ledger_decides_by_the_record_alone(ledger: LedgerOnServers) -> None:
    async with ledger.running():
        await ledger.send(command("ada", amount=5))
        await ledger.until_events(1)
        await ledger.until_published()
        [event] = await ledger.events()
        await ledger.publisher.publish(ledger.topics.events, event.partition, [_record(forged_after(event))])
        await ledger.send(command("ada", "CREDIT_SPEND", -1000))
        await ledger.until("SELECT count(*) FROM ledger.event WHERE reason = 'INSUFFICIENT_CREDITS'", 1)


async def test_a_client_that_waits_believes_the_topic(ledger: LedgerOnServers) -> None:
    async with ledger.running():
        await ledger.send(command("ada", amount=5))
        await ledger.until_events(1)
        await ledger.until_published()
        [event] = await ledger.events()
    # The consumer has stopped, so the forger answers first.
    answer = forged_after(event)
    async with LedgerClient("example-app", ledger.bootstrap, topic_prefix=ledger.topics.prefix) as client:
        await client.follow_outcomes()
        waiting = asyncio.create_task(client.submit("CREDIT_ADD", "ada", "n", 1_000_000, command_id=answer.command_id))
        while not waiting.done():  # it may not be registered yet the first time
            await ledger.publisher.publish(ledger.topics.events, event.partition, [_record(answer)])
            await asyncio.sleep(0.05)
    assert (await waiting).balance == answer.balance_after


def test_a_subscriber_takes_a_forged_event_and_halts_at_the_true_one() -> None:
    chain = EventChain()
    first, true_one = chain.posted("ada", "CREDIT_ADD", 5), chain.posted("ada", "CREDIT_ADD", 7)
    guard = SequenceGuard(first.partition, BEGINNING)
    for event in (first, forged_after(first)):
        guard.judge(event)
        guard.advance(event)
    with pytest.raises(DivergedError):
        guard.judge(true_one)


def _record(event: RecordedEvent) -> OutgoingRecord:
    return OutgoingRecord(event.owner_id.encode(), encode_event(event))
