"""Something to write to Kafka and Postgres and to read back, for tests of the stack itself."""

import asyncio

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from service.stack import Addresses

TOPIC = "greetings"


class Lines(list[str]):
    """What was reported."""

    def __call__(self, line: str) -> None:
        self.append(line)

    def __str__(self) -> str:
        return "\n".join(self)


async def write(addresses: Addresses, value: str) -> None:
    connection = await asyncpg.connect(addresses.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS greeting (value text)")
    await connection.execute("INSERT INTO greeting VALUES ($1)", value)
    await connection.close()
    admin = AIOKafkaAdminClient(bootstrap_servers=addresses.kafka_bootstrap_servers)
    await admin.start()
    if TOPIC not in await admin.list_topics():
        await admin.create_topics([NewTopic(TOPIC, 1, 1)])
    await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=addresses.kafka_bootstrap_servers, acks="all") as producer:
        await producer.send_and_wait(TOPIC, value.encode())


async def read(addresses: Addresses, count: int) -> tuple[list[str], list[str]]:
    connection = await asyncpg.connect(addresses.database_url)
    rows = [row["value"] for row in await connection.fetch("SELECT value FROM greeting ORDER BY value")]
    await connection.close()
    async with AIOKafkaConsumer(
        TOPIC, bootstrap_servers=addresses.kafka_bootstrap_servers, auto_offset_reset="earliest"
    ) as consumer:
        records = [(await asyncio.wait_for(consumer.getone(), 20)).value.decode() for _ in range(count)]
    return rows, sorted(records)
