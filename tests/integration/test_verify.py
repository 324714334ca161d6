"""`ledger verify` names each violation that can be planted in stored data, and finds none where there is none."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from ledger.domain.chain import event_hash
from ledger.event_store.keys import command_key, nonce_key
from ledger.event_store.protocol import EVENT_COLUMNS
from ledger.event_store.verification import verify_record
from ledger.event_store.verification_checks import Check, Violation
from projections.registry import READ_MODELS
from projections.versions import install
from service.verification.read_models import read_model_witnesses
from tests.cli_process import cli_environment, ledger_cli
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers
from tests.projections_on_servers import projecting, until_projected
from tests.servers import fresh_database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

OWNER = "ada"
"""Six events, the last of which is rejected; two of each kind for other owners."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ledger(kafka_bootstrap: str, postgres_server_url: str) -> AsyncIterator[LedgerOnServers]:
    """A ledger that has worked for a while and rests. Tests plant in transactions that they roll back."""
    async with (
        fresh_database(postgres_server_url) as database_url,
        ledger_on_servers(kafka_bootstrap, database_url) as made,
    ):
        await install(database_url, READ_MODELS)
        async with made.running(), projecting(made):
            for amount in (100, 5, 7):
                await made.send(command(OWNER, "CREDIT_ADD", amount, metadata='{"note": "kept"}'))
            await made.send(command(OWNER, "CREDIT_SPEND", -20), command(OWNER, "CREDIT_SPEND", -30))
            await made.send(command(OWNER, "CREDIT_SPEND", -5_000))
            for number in range(12):
                await made.send(command(f"owner-{number}", "CREDIT_ADD", 10))
                await made.send(command(f"owner-{number}", "CREDIT_SPEND", -11))
            await made.send_bytes(b"not json", OWNER.encode())
            await until_projected(made, 30)
            await made.until("SELECT count(*) FROM ledger.quarantine", 1)
            await made.until_published()
        yield made


class Plant:
    """A transaction in which anything can be changed, triggers or not, as whoever has the disk could."""

    def __init__(self, connection: asyncpg.Connection, partition: int) -> None:
        self.connection = connection
        self.partition = partition

    async def sql(self, statement: str, *arguments: object) -> Any:
        return await self.connection.execute(statement, *arguments)

    async def event(self, sequence_from_last: int = 0) -> dict[str, Any]:
        row = await self.connection.fetchrow(
            "SELECT * FROM ledger.event WHERE partition = $1 AND owner_id = $2 "
            "ORDER BY sequence DESC OFFSET $3 LIMIT 1",
            self.partition,
            OWNER,
            sequence_from_last,
        )
        assert row is not None
        return dict(row)

    async def append_forged(self, **changes: Any) -> dict[str, Any]:
        """An event behind the head that was chained by somebody who knows how, with its command key and the head."""
        head = await self.connection.fetchrow(
            "SELECT * FROM ledger.partition_head WHERE partition = $1", self.partition
        )
        assert head is not None
        last = await self.event()
        forged = last | {
            "sequence": head["sequence"] + 1,
            "command_id": uuid4(),
            "command_offset": last["command_offset"] + 100,
            "occurred_at": head["occurred_at"] + timedelta(seconds=1),
            **changes,
        }
        fields = {name: forged[name] for name in EVENT_COLUMNS if name not in {"metadata", "hash"}}
        forged["hash"] = event_hash(head["hash"], **fields)
        await self.connection.copy_records_to_table(
            "event", schema_name="ledger", columns=EVENT_COLUMNS, records=[[forged[name] for name in EVENT_COLUMNS]]
        )
        key = command_key(forged["app"], forged["owner_id"], forged["command_id"])
        place = (self.partition, forged["sequence"])
        await self.sql("INSERT INTO ledger.command_key VALUES ($1, $2, $3, $4)", key.command_id, key.scope, *place)
        await self.sql(
            "UPDATE ledger.partition_head SET sequence = $2, hash = $3, occurred_at = $4, consumed = consumed + 1 "
            "WHERE partition = $1",
            self.partition,
            forged["sequence"],
            forged["hash"],
            forged["occurred_at"],
        )
        await self.sql(
            "UPDATE ledger.command_offset SET next_offset = $2::bigint + 1, last_offset = $2 WHERE partition = $1",
            self.partition,
            forged["command_offset"],
        )
        return forged


@pytest_asyncio.fixture(loop_scope="module")
async def plant(ledger: LedgerOnServers) -> AsyncIterator[Plant]:
    connection = await asyncpg.connect(ledger.database_url)
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.execute("SET LOCAL session_replication_role = replica")
    yield Plant(connection, ledger.partition(OWNER))
    await transaction.rollback()
    await connection.close()


async def verified(plant: Plant) -> None:
    witnesses = await read_model_witnesses(plant.connection)
    await verify_record(plant.connection, lambda done, total: None, witnesses)


async def violation(plant: Plant) -> Violation:
    with pytest.raises(Violation) as raised:
        await verified(plant)
    return raised.value


async def test_a_ledger_that_only_worked_has_no_violation(plant: Plant) -> None:
    await verified(plant)


async def test_a_forger_who_knows_how_is_not_seen(plant: Plant) -> None:
    # What the test of nonces below finds is what it plants, not a clumsy forgery.
    await plant.append_forged(nonce="forged", amount=0, reason="FORGED")
    await verified(plant)


@dataclass(frozen=True)
class Planted:
    """What is planted, and how it is named."""

    name: str
    statement: str
    check: Check
    says: str


LAST = "(SELECT max(sequence) FROM ledger.event WHERE partition = {p})"
ACCEPTED = "(SELECT min(sequence) + 1 FROM ledger.event WHERE partition = {p} AND owner_id = 'ada')"
PLANTED = [
    Planted(
        "the last event is lost",
        f"DELETE FROM ledger.event WHERE partition = {{p}} AND sequence = {LAST}",
        Check.LOST,
        "the record ends at",
    ),
    Planted(
        "the head went back",
        "UPDATE ledger.partition_head SET sequence = sequence - 1 WHERE partition = {p}",
        Check.LOST,
        "behind the head",
    ),
    Planted(
        "an event in the middle is lost",
        f"DELETE FROM ledger.event WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.SEQUENCE,
        "it is missing",
    ),
    Planted(
        "an event on a partition that does not exist",
        f"UPDATE ledger.event SET partition = 99 WHERE partition = {{p}} AND sequence = {LAST}",
        Check.LOST,
        "the record ends at",
    ),
    Planted(
        "a head is missing", "DELETE FROM ledger.partition_head WHERE partition = {p}", Check.SEQUENCE, "4 partitions"
    ),
    Planted(
        "an event of a message that is not consumed yet",
        "DELETE FROM ledger.quarantine; "
        "UPDATE ledger.command_offset SET next_offset = 1, last_offset = 0 WHERE partition = {p}",
        Check.CONSUMED,
        "not consumed yet",
    ),
    Planted(
        "a mark that contradicts itself",
        "UPDATE ledger.command_offset SET last_offset = next_offset WHERE partition = {p}",
        Check.CONSUMED,
        "is not below the next one",
    ),
    Planted(
        "a message that is an event and in quarantine",
        "INSERT INTO ledger.quarantine (app, partition, command_offset, timestamp_ms, reason, detail, status) "
        "SELECT app, partition, command_offset, 0, 'X', 'x', 'waiting' FROM ledger.event "
        f"WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.CONSUMED,
        "in quarantine as well",
    ),
    Planted(
        "a quarantined message that was never consumed",
        "UPDATE ledger.quarantine SET command_offset = 1000",
        Check.CONSUMED,
        "was never consumed",
    ),
    Planted(
        "fewer messages consumed than recorded",
        "UPDATE ledger.partition_head SET consumed = 1 WHERE partition = {p}",
        Check.CONSUMED,
        "1 messages were consumed",
    ),
    Planted(
        "two events of one message",
        "UPDATE ledger.event AS later SET command_offset = earlier.command_offset FROM ledger.event AS earlier "
        "WHERE later.partition = {p} AND earlier.partition = {p} AND later.sequence = earlier.sequence + 1 "
        f"AND later.sequence = {ACCEPTED}",
        Check.CONSUMED,
        "has a second event",
    ),
    Planted(
        "messages decided out of order",
        f"UPDATE ledger.event SET command_offset = -1 WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.ORDER,
        "is decided after",
    ),
    Planted(
        "an owner on the wrong partition",
        "UPDATE ledger.event SET owner_id = (SELECT min(owner_id) FROM ledger.event WHERE partition <> {p}) "
        f"WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.ORDER,
        "belongs on partition",
    ),
    Planted(
        "a time that goes back",
        "UPDATE ledger.partition_head SET occurred_at = occurred_at - interval '1 hour' WHERE partition = {p}",
        Check.ORDER,
        "occurred_at",
    ),
    Planted(
        "a negative balance",
        f"UPDATE ledger.event SET balance_after = -5 WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.NEGATIVE,
        "is -5",
    ),
    Planted(
        "a wrong balance_after",
        f"UPDATE ledger.event SET balance_after = balance_after + 1 WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.ARITHMETIC,
        "100 + 5 = 105",
    ),
    Planted(
        "a wrong account_version",
        f"UPDATE ledger.event SET account_version = 9 WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.ARITHMETIC,
        "account_version",
    ),
    Planted(
        "a rejected command that moves something",
        "UPDATE ledger.event SET amount = -1, balance_after = balance_after - 1 "
        "WHERE partition = {p} AND owner_id = 'ada' AND reason IS NOT NULL",
        Check.ARITHMETIC,
        "a rejected command moves",
    ),
    Planted(
        "an account that differs from its events",
        "UPDATE ledger.account SET balance = balance + 1 WHERE owner_id = 'ada'",
        Check.ARITHMETIC,
        "stored are balance 63",
    ),
    Planted(
        "an account whose version differs",
        "UPDATE ledger.account SET version = version + 1 WHERE owner_id = 'ada'",
        Check.ARITHMETIC,
        "version",
    ),
    Planted(
        "an account is missing", "DELETE FROM ledger.account WHERE owner_id = 'ada'", Check.ARITHMETIC, "not stored"
    ),
    Planted(
        "an account without events",
        "INSERT INTO ledger.account VALUES ('nobody', 'credits', 5, 1)",
        Check.ARITHMETIC,
        "'nobody'",
    ),
    Planted(
        "a command key is missing",
        f"DELETE FROM ledger.command_key WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.KEYS,
        "has no key",
    ),
    Planted(
        "a command key without event",
        "INSERT INTO ledger.command_key VALUES (gen_random_uuid(), gen_random_uuid(), {p}, 4000)",
        Check.KEYS,
        "belongs to no event",
    ),
    Planted(
        "a command key of another command",
        "UPDATE ledger.command_key SET command_id = gen_random_uuid() "
        f"WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.KEYS,
        "that of another command",
    ),
    Planted(
        "a nonce key is missing",
        f"DELETE FROM ledger.nonce_key WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.KEYS,
        "could be used again",
    ),
    Planted(
        "a nonce key of another nonce",
        f"UPDATE ledger.nonce_key SET key = gen_random_uuid() WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.KEYS,
        "not that of its nonce",
    ),
    Planted(
        "a nonce key of a rejected command",
        f"INSERT INTO ledger.nonce_key VALUES (gen_random_uuid(), {{p}}, {LAST} + 1)",
        Check.KEYS,
        "belongs to no event",
    ),
    Planted(
        "a balance that differs from the fold",
        "UPDATE projections.balances_v1 SET balance = balance + 1 WHERE owner_id = 'ada'",
        Check.READ_MODEL,
        "balance 63",
    ),
    Planted(
        "a balance is missing",
        "DELETE FROM projections.balances_v1 WHERE owner_id = 'ada'",
        Check.READ_MODEL,
        "there is none",
    ),
    Planted(
        "a balance without events",
        "INSERT INTO projections.balances_v1 VALUES (1, 1, now(), 'nobody', 'credits')",
        Check.READ_MODEL,
        "accounts",
    ),
    Planted(
        "a line of a statement differs",
        "UPDATE projections.statements_v1 SET nonce = 'other' WHERE owner_id = 'ada' AND amount = 5",
        Check.READ_MODEL,
        "statements",
    ),
    Planted(
        "a line of a statement is missing",
        "DELETE FROM projections.statements_v1 WHERE owner_id = 'ada' AND amount = 5",
        Check.READ_MODEL,
        "does not hold it",
    ),
    Planted(
        "a checkpoint behind the head",
        "UPDATE projections.checkpoint SET sequence = sequence + 1 WHERE partition = {p}",
        Check.READ_MODEL,
        "behind the head",
    ),
    Planted(
        "more is noted as published than there is",
        "UPDATE ledger.partition_head SET published_sequence = sequence + 1 WHERE partition = {p}",
        Check.PUBLISHED,
        "published_sequence",
    ),
    Planted(
        "events on a partition that nobody claimed",
        "UPDATE ledger.partition_head SET epoch = 0 WHERE partition = {p}",
        Check.EPOCH,
        "nobody ever claimed",
    ),
    Planted(
        "a field was changed",
        f"UPDATE ledger.event SET operation = 'CREDIT_MINT' WHERE partition = {{p}} AND sequence = {ACCEPTED}",
        Check.CHAIN,
        "one of the two was changed",
    ),
    Planted(
        "metadata were changed",
        "UPDATE ledger.event SET metadata = '{{}}' WHERE partition = {p} AND metadata IS NOT NULL",
        Check.CHAIN,
        "metadata",
    ),
    Planted(
        "the head has another hash",
        "UPDATE ledger.partition_head SET hash = sha256('x') WHERE partition = {p}",
        Check.CHAIN,
        "it has hash",
    ),
]


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.name)
async def test_a_planted_violation_is_named(plant: Plant, planted: Planted) -> None:
    changed = await plant.sql(
        planted.statement.replace("{{}}", "@").replace("{p}", str(plant.partition)).replace("@", "{}")
    )
    assert not changed.endswith(" 0"), "nothing was planted"
    found = await violation(plant)
    assert (found.check, planted.says in str(found)) == (planted.check, True), str(found)


async def test_a_nonce_that_was_accepted_twice_is_named_with_both_places(plant: Plant) -> None:
    first = await plant.event(sequence_from_last=2)
    head = await plant.event()
    forged = await plant.append_forged(
        nonce=first["nonce"],
        amount=3,
        balance_after=head["balance_after"] + 3,
        account_version=head["account_version"] + 1,
        reason=None,
        detail=None,
    )
    found = await violation(plant)
    assert found.check is Check.KEYS
    assert found.where == f"{plant.partition}:{forged['sequence']}"
    assert f"was used before, at {plant.partition}:{first['sequence']}" in found.what


async def test_erased_metadata_do_not_break_the_chain(plant: Plant) -> None:
    await plant.sql("UPDATE ledger.event SET metadata = NULL")
    await verified(plant)


async def test_a_key_that_is_right_is_not_taken_for_wrong(plant: Plant) -> None:
    row = await plant.event(sequence_from_last=1)
    stored = await plant.connection.fetchval(
        "SELECT key FROM ledger.nonce_key WHERE partition = $1 AND sequence = $2", plant.partition, row["sequence"]
    )
    assert stored == nonce_key(row["app"], row["owner_id"], row["nonce"])


async def test_the_command_line_verifies_everything(ledger: LedgerOnServers, tmp_path: Path) -> None:
    ended = await ledger_cli("verify", "--kafka", "--json", environment=cli_environment(ledger, tmp_path))
    assert ended.code == 0, ended.err
    assert (ended.document["verified"], ended.document["events"], ended.document["topic_records"]) == (True, 30, 30)


async def test_the_command_line_names_the_violation_and_ends_with_1(ledger: LedgerOnServers, tmp_path: Path) -> None:
    partition = ledger.partition(OWNER)
    swap: Callable[[str], str] = "UPDATE ledger.account SET balance = balance {} 1 WHERE owner_id = 'ada'".format
    await ledger.pool.execute(swap("+"))
    try:
        ended = await ledger_cli("verify", "--json", environment=cli_environment(ledger, tmp_path))
        assert ended.code == 1
        assert ended.document["violation"]["invariant"] == 6
        assert "'ada'" in ended.document["violation"]["where"]
        plain = await ledger_cli("verify", "--no-kafka", environment=cli_environment(ledger, tmp_path))
        assert plain.code == 1
        assert "VIOLATION: invariant 6" in plain.out
    finally:
        await ledger.pool.execute(swap("-"))
    assert partition < ledger.partitions
