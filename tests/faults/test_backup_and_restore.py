"""A base backup and archived WAL: restored to the end nothing is missing; restored to an earlier point whoever is
ahead notices, and an operator's command makes it go on without what was lost."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from consumers.subscriber import LedgerSubscriber, RecordedEvent
from ledger.broker.kafka_reader import KafkaRecordReader
from projections.registry import READ_MODELS
from projections.versions import install
from service.verification.everything import verify_everything
from tests.cli_process import Ended, cli_environment, ledger_cli
from tests.ledger_on_servers import WAIT_S, LedgerOnServers, command, ledger_on_servers
from tests.postgres_copies import PostgresCopies, postgres_copies
from tests.projections_on_servers import assert_read_models_equal_the_fold, projecting, until_projected
from tests.servers import say

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]

OWNERS = [f"owner-{number}" for number in range(24)]
POINT = "before the mistake"
HALTED = "SELECT count(*) FROM ledger.partition_head WHERE halted_because LIKE '%' || $1 || '%'"
ARCHIVED = "SELECT coalesce(last_archived_wal >= '{}', false) FROM pg_stat_archiver"
RECOVERING = "SELECT pg_is_in_recovery()"


@pytest.fixture
async def copies() -> AsyncIterator[PostgresCopies]:
    async with postgres_copies() as made:
        yield made


class Backups:
    """A primary that archives its WAL, one base backup, and what is restored from both."""

    def __init__(self, copies: PostgresCopies) -> None:
        self.copies = copies
        self.archive = Path()

    async def start_primary(self) -> None:
        primary = await self.copies.start_primary()
        self.archive = self.copies.own_folder("archive")
        archive_command = f"test ! -f {self.archive}/%f && cp %p {self.archive}/%f"
        for setting in (f"archive_command = '{archive_command}'", "archive_mode = on"):
            await self.copies.execute("primary", f"ALTER SYSTEM SET {setting}")
        await primary.stop(say)
        await primary.start(say)

    async def archive_all(self) -> None:
        """Return when everything that is committed is in the archive."""
        last = await self.copies.execute("primary", "SELECT pg_walfile_name(pg_current_wal_lsn())")
        await self.copies.execute("primary", "SELECT pg_switch_wal()")
        await self.copies.until("primary", ARCHIVED.format(last), True)

    async def restore(self, name: str, target: str = "") -> str:
        """Restore the backup, to the end of the archive or to a target; the URL of the new server."""
        data = self.copies.clone("backup", name)
        (data / "recovery.signal").touch()
        settings = f"restore_command = 'cp {self.archive}/%f %p'\nrecovery_target_action = promote\n{target}\n"
        await self.copies.start_copy(name, settings=settings)
        await self.copies.until(name, RECOVERING, False)
        return self.copies.url(name)


@asynccontextmanager
async def at_work(ledger: LedgerOnServers, holder: str) -> AsyncIterator[None]:
    async with ledger.running(holder), projecting(ledger, holder):
        yield


async def send_round(ledger: LedgerOnServers) -> None:
    await ledger.send(*(command(owner, "CREDIT_ADD", 1) for owner in OWNERS))


async def moved_to(ledger: LedgerOnServers, url: str) -> None:
    """The ledger's database is another server from now on."""
    ledger.pool.terminate()
    ledger.database_url = url
    ledger.pool = await asyncpg.create_pool(url, min_size=1, max_size=4)


async def verified(ledger: LedgerOnServers) -> None:
    reader = KafkaRecordReader(ledger.bootstrap)
    await reader.start()
    connection = await asyncpg.connect(ledger.database_url)
    try:
        await verify_everything(connection, reader, ledger.topics, lambda what, done, total: None)
    finally:
        await connection.close()
        await reader.stop()
    await assert_read_models_equal_the_fold(ledger)


def subscriber(ledger: LedgerOnServers, group: str, seen: list[RecordedEvent]) -> LedgerSubscriber:
    made = LedgerSubscriber(
        app="example-app",
        group=f"{ledger.topics.prefix}.{group}",
        kafka_bootstrap_servers=ledger.bootstrap,
        on_failure="halt",
        start="beginning",
        topics=ledger.topics,
    )

    @made.on("entry_posted")
    async def note(event: RecordedEvent) -> None:
        seen.append(event)

    return made


async def until_seen(seen: list[RecordedEvent], count: int) -> None:
    async with asyncio.timeout(WAIT_S):
        while len({event.position for event in seen}) < count:  # noqa: ASYNC110  nothing tells us
            await asyncio.sleep(0.05)


async def test_a_backup_is_restored_to_the_end_and_to_an_earlier_point(
    copies: PostgresCopies, kafka_bootstrap: str, tmp_path: Path
) -> None:
    backups = Backups(copies)
    await backups.start_primary()
    async with ledger_on_servers(kafka_bootstrap, copies.url("primary")) as ledger:
        await install(ledger.database_url, READ_MODELS)
        async with at_work(ledger, "primary"):
            await send_round(ledger)
            await until_projected(ledger, len(OWNERS))
            await copies.base_backup("backup")
            await send_round(ledger)
            await until_projected(ledger, 2 * len(OWNERS))
            await copies.execute("primary", f"SELECT pg_create_restore_point('{POINT}')")
            await send_round(ledger)
            await until_projected(ledger, 3 * len(OWNERS))
            await ledger.until_published()
        await backups.archive_all()
        ended_with = await ledger.events()
        copies.kill("primary")

        await moved_to(ledger, await backups.restore("whole"))
        assert await ledger.events() == ended_with
        async with at_work(ledger, "whole"):
            await send_round(ledger)
            await until_projected(ledger, 4 * len(OWNERS))
            await ledger.until_published()
            await verified(ledger)
        copies.kill("whole")

        await moved_to(ledger, await backups.restore("earlier", f"recovery_target_name = '{POINT}'"))
        assert await ledger.events() == [event for event in ended_with if event in await ledger.events()]
        kept = await ledger.pool.fetchval("SELECT count(*) FROM ledger.event")
        assert kept == 2 * len(OWNERS)
        await notice_and_recover(ledger, tmp_path, lost=2 * len(OWNERS))
        await lose_the_topic(ledger, tmp_path)


async def notice_and_recover(ledger: LedgerOnServers, folder: Path, lost: int) -> None:
    """Whoever is ahead of the restored record halts; then the operator gives up what was lost."""
    seen: list[RecordedEvent] = []
    async with subscriber(ledger, "ahead", seen) as ahead:
        await until_seen(seen, 4 * len(OWNERS))
        async with at_work(ledger, "earlier"):
            await ledger.until(HALTED, ledger.partitions, "are missing")
            await ledger.until(
                "SELECT count(DISTINCT partition) FROM projections.checkpoint WHERE halted_because LIKE '%lacks%'",
                ledger.partitions,
            )
            refused = await recover(ledger, folder, "--yes")
            assert (refused.code, "Stop all of them" in refused.err) == (1, True)
        said = await ledger.pool.fetchval("SELECT halted_because FROM ledger.partition_head WHERE partition = 0")
        say(f"after the restore: {said}")
        before = await ledger.pool.fetch("SELECT * FROM ledger.partition_head")
        asked = await recover(ledger, folder)
        assert (asked.code, "give --yes" in asked.err) == (1, True)
        wrong = await ledger_cli(
            "republish", "--reason", "no", "--yes", environment=cli_environment(ledger, folder), folder=folder
        )
        assert (wrong.code, "ledger recover restored" in wrong.err) == (1, True)
        assert await ledger.pool.fetch("SELECT * FROM ledger.partition_head") == before
        (folder / "lost.jsonl").unlink()
        done = await recover(ledger, folder, "--yes", "--json")
        assert done.code == 0, done.err
        assert sum(tail["events"] for tail in done.document["given_up"]) == lost
        kept = [json.loads(line) for line in (folder / "lost.jsonl").read_text().splitlines()]
        assert {(event["partition"], event["sequence"]) for event in kept} == {
            (tail["partition"], sequence)
            for tail in done.document["given_up"]
            for sequence in range(tail["first"], tail["last"] + 1)
        }
        row = await ledger.pool.fetchrow("SELECT * FROM ledger.intervention ORDER BY number DESC LIMIT 1")
        assert row is not None
        assert (row["operator"], row["kind"], row["reason"]) == ("alice", "restored", "the disk burned")
        async with at_work(ledger, "recovered"):
            # The commands whose events were lost are decided again: their topics hold them still.
            await until_projected(ledger, 4 * len(OWNERS))
            await ledger.until_published()
        await verified(ledger)
        async with asyncio.timeout(WAIT_S):
            say(f"the subscriber that was ahead: {await ahead.wait_halted()}")
    anew: list[RecordedEvent] = []
    async with subscriber(ledger, "anew", anew):
        await until_seen(anew, 4 * len(OWNERS))
    assert sorted((event.position, event.hash) for event in anew) == sorted(
        (event.position, event.hash) for event in await ledger.events()
    )


async def lose_the_topic(ledger: LedgerOnServers, folder: Path) -> None:
    """The record is whole, and ledger.events is gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=ledger.bootstrap)
    await admin.start()
    await admin.delete_topics([ledger.topics.events])
    await admin.close()
    async with asyncio.timeout(WAIT_S):
        while ledger.topics.events in await ledger.admin.partition_counts():  # noqa: ASYNC110  (Kafka does not tell)
            await asyncio.sleep(0.05)
    environment = cli_environment(ledger, folder)
    done = await ledger_cli(
        "republish", "--reason", "deleted by mistake", "--yes", environment=environment, folder=folder
    )
    assert done.code == 0, done.err
    async with at_work(ledger, "republished"):
        await send_round(ledger)
        await until_projected(ledger, 5 * len(OWNERS))
        await ledger.until_published()
    assert (await ledger_cli("verify", environment=environment)).code == 0


async def recover(ledger: LedgerOnServers, folder: Path, *options: str) -> Ended:
    arguments = ["--reason", "the disk burned", "--by", "alice", "--save", str(folder / "lost.jsonl"), *options]
    return await ledger_cli(
        "recover", "restored", *arguments, environment=cli_environment(ledger, folder), folder=folder
    )
