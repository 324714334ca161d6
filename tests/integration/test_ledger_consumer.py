"""The ledger consumer on real Kafka and Postgres."""

from collections.abc import AsyncIterator

import pytest

from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    async with ledger_on_servers(kafka_bootstrap, empty_database_url) as running:
        yield running


async def test_every_command_becomes_one_event_in_the_record_and_on_the_topic(ledger: LedgerOnServers) -> None:
    owners = [f"owner-{number}" for number in range(20)]
    async with ledger.running():
        await ledger.send(*(command(owner, "CREDIT_ADD", 100) for owner in owners))
        await ledger.send(*(command(owner, "CREDIT_SPEND", -30) for owner in owners))
        await ledger.send(*(command(owner, "CREDIT_SPEND", -80) for owner in owners))
        await ledger.until_events(60)
        await ledger.until_published()
    recorded = await ledger.events()
    published = await ledger.published(ledger.topics.events)
    assert [event for _, event in sorted(published, key=lambda one: one[1].position)] == recorded
    assert all(partition == event.partition == ledger.partition(event.owner_id) for partition, event in published)
    assert [event.balance_after for event in recorded if event.owner_id == "owner-7"] == [100, 70, 70]
    assert {event.reason for event in recorded} == {None, "INSUFFICIENT_CREDITS"}


async def test_a_command_sent_again_is_answered_by_its_first_event(ledger: LedgerOnServers) -> None:
    first = command("ada", "CREDIT_ADD", 5)
    async with ledger.running():
        await ledger.send(first, first, command("ada", "CREDIT_SPEND", -2))
        await ledger.until_events(2)
        await ledger.send(first)
        await ledger.until("SELECT sum(consumed)::int FROM ledger.partition_head", 4)
        await ledger.until_published()
    recorded = await ledger.events()
    replayed = await ledger.published(ledger.topics.replays)
    assert [event.amount for event in recorded] == [5, -2]
    assert [event for _, event in replayed] == [recorded[0]] * 2
