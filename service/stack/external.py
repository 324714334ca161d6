"""Kafka and Postgres that somebody else runs, named by their addresses."""

import asyncio
from typing import Literal

from ledger.broker.kafka_servers import NO_SECURITY, KafkaSecurity, KafkaServers
from ledger.event_store.database_url import redacted
from service.stack.answering import kafka_answers, postgres_answers, until_answering
from service.stack.interface import Addresses, Report, ServerStatus, StackError

_ANSWERS_WITHIN_S = 5.0


class ExternalStack:
    """Nothing is started or stopped. Servers that do not answer are an error: nothing else is tried."""

    def __init__(self, addresses: Addresses, security: KafkaSecurity = NO_SECURITY) -> None:
        self._addresses = addresses
        self._kafka = KafkaServers(addresses.kafka_bootstrap_servers, security)

    @property
    def name(self) -> Literal["external"]:
        return "external"

    async def start(self, report: Report) -> Addresses:
        """See `Stack.start`."""
        kafka, database = self._kafka, self._addresses.database_url
        kafka_wrong, database_wrong = await asyncio.gather(
            until_answering(kafka_answers, kafka, _ANSWERS_WITHIN_S),
            until_answering(postgres_answers, database, _ANSWERS_WITHIN_S),
        )
        wrong = []
        if kafka_wrong is not None:
            wrong.append(f"Kafka at {kafka} (LEDGER_KAFKA_BOOTSTRAP_SERVERS) does not answer: {kafka_wrong}")
        if database_wrong is not None:
            shown = redacted(database)
            wrong.append(f"Postgres at {shown} (LEDGER_DATABASE_URL) does not answer: {database_wrong}")
        if wrong:
            raise StackError(
                "\n".join(wrong) + "\nThey were named, so nothing else is tried. Start them, correct the addresses, "
                "or unset both to have the servers started for you."
            )
        report(f"Kafka answers on {kafka}, Postgres on {redacted(database)}")
        return self._addresses

    async def stop(self, report: Report) -> None:
        """They belong to somebody else."""

    async def status(self) -> tuple[ServerStatus, ServerStatus]:
        """See `Stack.status`."""
        kafka, database = self._kafka, self._addresses.database_url
        kafka_wrong, database_wrong = await asyncio.gather(kafka_answers(kafka), postgres_answers(database))
        return (
            ServerStatus("kafka", kafka_wrong is None, str(kafka)),
            ServerStatus("postgres", database_wrong is None, redacted(database).rpartition("@")[2]),
        )
