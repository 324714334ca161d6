"""What a run left in Kafka and in Postgres, read past all proxies, a partition at a time."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import asyncpg

from ledger.broker.kafka_reader import KafkaRecordReader
from ledger.broker.protocol import Record, TopicPartition
from ledger.messages.topics import Topics
from tests.auditor.read_models import Line
from tests.auditor.rows import Quarantined, Row, Sent

POLL_RECORDS_MAX: Final = 5_000
POLL_WAIT_S: Final = 5.0
FETCH_TIMEOUT_S: Final = 600.0


class Kept:
    """Everything at rest: nothing writes any more."""

    def __init__(self, connection: asyncpg.Connection, reader: KafkaRecordReader, topics: Topics) -> None:
        self._connection = connection
        self._reader = reader
        self._topics = topics

    async def topics_of(self, apps: Collection[str], partition: int) -> "TopicsKept":
        """Everything that lies in Kafka on a partition."""
        topics = [self._topics.events, self._topics.replays, *(self._topics.commands(app) for app in apps)]
        records = await self._records([TopicPartition(topic, partition) for topic in topics])
        return TopicsKept(
            sent=[
                Sent(app, partition, record.offset, record.key, record.value)
                for app in apps
                for record in records[self._topics.commands(app)]
            ],
            published=[(record.key, record.value) for record in records[self._topics.events]],
            replayed=[(record.key, record.value) for record in records[self._topics.replays]],
        )

    async def rows(self, partition: int) -> list[Row]:
        """The events in their order."""
        columns = ", ".join(Row._fields)
        query = f"SELECT {columns} FROM ledger.event WHERE partition = $1 ORDER BY sequence"
        return [Row._make(row) for row in await self._fetch(query, partition)]

    async def quarantined(self, partition: int) -> list[Quarantined]:
        """The messages that could not be read."""
        columns = ", ".join(Quarantined._fields)
        query = f"SELECT {columns} FROM ledger.quarantine WHERE partition = $1"
        return [Quarantined._make(row) for row in await self._fetch(query, partition)]

    async def keys(self) -> tuple[int, int]:
        """How many command ids and nonces are taken."""
        [row] = await self._fetch(
            "SELECT (SELECT count(*) FROM ledger.command_key), (SELECT count(*) FROM ledger.nonce_key)"
        )
        return row[0], row[1]

    async def checkpoints(self, read_model: str) -> dict[int, int]:
        """How far the active version has got, by partition."""
        query = """
            SELECT partition, sequence FROM projections.checkpoint
            JOIN projections.read_model ON name = read_model AND active_version = version WHERE name = $1
        """
        return {row["partition"]: row["sequence"] for row in await self._fetch(query, read_model)}

    async def balances(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The balances that are shown, with their versions."""
        query = f"SELECT * FROM projections.balances_v{await self._version('balances')}"
        return {
            (row["owner_id"], row["credit_type"]): (row["balance"], row["account_version"])
            for row in await self._fetch(query)
        }

    async def statements(self, partition: int) -> dict[tuple[str, str], list[Line]]:
        """The entries that are shown, newest first."""
        query = f"""
            SELECT owner_id, credit_type, sequence, amount, balance_after
            FROM projections.statements_v{await self._version("statements")}
            WHERE partition = $1 AND accepted ORDER BY sequence DESC
        """
        statements: dict[tuple[str, str], list[Line]] = {}
        for row in await self._fetch(query, partition):
            line = Line(partition, row["sequence"], row["amount"], row["balance_after"])
            statements.setdefault((row["owner_id"], row["credit_type"]), []).append(line)
        return statements

    async def unfinished(self, apps: Collection[str], partitions: int) -> list[str]:
        """What is not at rest yet, in words; empty when everything is."""
        unfinished = []
        places = [TopicPartition(self._topics.commands(app), number) for app in apps for number in range(partitions)]
        bounds = await self._reader.bounds(places)
        marks = {
            (self._topics.commands(row["app"]), row["partition"]): row["next_offset"]
            for row in await self._fetch("SELECT app, partition, next_offset FROM ledger.command_offset")
        }
        for place in places:
            if bounds[place].end > marks.get(place, 0):
                unfinished.append(f"{place.topic}:{place.partition} at {marks.get(place, 0)} of {bounds[place].end}")
        heads = await self._fetch("SELECT * FROM ledger.partition_head ORDER BY partition")
        for head in heads:
            if head["halted_because"] is not None:
                unfinished.append(f"partition {head['partition']} is halted: {head['halted_because']}")
            if head["published_sequence"] < head["sequence"]:
                where = f"{head['published_sequence']} of {head['sequence']}"
                unfinished.append(f"partition {head['partition']} is published up to {where}")
        for model in ("balances", "statements"):
            at = await self.checkpoints(model)
            for head in heads:
                if at.get(head["partition"], 0) < head["sequence"]:
                    where = f"{at.get(head['partition'], 0)} of {head['sequence']}"
                    unfinished.append(f"{model} of partition {head['partition']} are at {where}")
        return unfinished

    async def _version(self, read_model: str) -> int:
        [row] = await self._fetch("SELECT active_version FROM projections.read_model WHERE name = $1", read_model)
        return int(row["active_version"])

    async def _fetch(self, query: str, *arguments: object) -> Sequence[asyncpg.Record]:
        rows: Sequence[asyncpg.Record] = await self._connection.fetch(query, *arguments, timeout=FETCH_TIMEOUT_S)
        return rows

    async def _records(self, places: Sequence[TopicPartition]) -> dict[str, list[Record]]:
        """All at once: each change of the assignment waits for the fetch that is under way."""
        bounds = await self._reader.bounds(places)
        self._reader.assign({place: bound.start for place, bound in bounds.items()})
        records: dict[str, list[Record]] = {place.topic: [] for place in places}
        unread = {place.topic: bound.end for place, bound in bounds.items() if bound.end > bound.start}
        while unread:
            polled = await self._reader.poll(POLL_RECORDS_MAX, POLL_WAIT_S)
            if not polled:
                raise AssertionError(f"Kafka gives nothing for {POLL_WAIT_S:g} s, though {unread} are not reached")
            for record in polled:
                records[record.topic].append(record)
            unread = {topic: end for topic, end in unread.items() if _next_offset(records[topic]) < end}
        return records


@dataclass(frozen=True, slots=True)
class TopicsKept:
    """One partition of all topics: commands topic by topic in offset order, keys and values of the others."""

    sent: list[Sent]
    published: list[tuple[bytes | None, bytes | None]]
    replayed: list[tuple[bytes | None, bytes | None]]


def _next_offset(records: Sequence[Record]) -> int:
    return records[-1].offset + 1 if records else 0
