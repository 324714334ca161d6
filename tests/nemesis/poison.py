"""Messages that are no commands, as a broken producer would send them."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from ledger.broker.kafka_publisher import KafkaPublisher
from ledger.broker.protocol import BrokerUnavailableError, OutgoingRecord, PublishError
from ledger.messages.partitioning import partition_of
from ledger.messages.topics import Topics
from tests.nemesis.history import HistoryWriter

MESSAGES_AT_ONCE: Final = 6


def poison(random: Random, partitions: int) -> tuple[bytes | None, bytes | None, int]:
    """Key, value and partition of something unreadable."""
    owner = f"cold-{random.randrange(4_000)}"
    key: bytes | None = owner.encode()
    where = partition_of(owner.encode(), partitions)
    body: dict[str, Any] = {
        "command_id": str(uuid.UUID(int=random.getrandbits(128), version=4)),
        "operation": "CREDIT_ADD",
        "owner_id": owner,
        "nonce": uuid.UUID(int=random.getrandbits(128)).hex,
        "amount": 1_000,
        "issued_at": datetime.now(UTC).isoformat(),
    }
    match random.randrange(9):
        case 0:
            return key, b"{", where
        case 1:
            return key, None, where
        case 2:
            return b"another key", json.dumps(body).encode(), partition_of(b"another key", partitions)
        case 3:
            return key, json.dumps(body).encode(), (where + 1) % partitions
        case 4:
            return key, json.dumps(body | {"amount": "5"}).encode(), where
        case 5:
            return key, json.dumps(body | {"amuont": 5}).encode(), where
        case 6:
            return key, json.dumps(body | {"metadata": {"note": "x" * 5_000}}).encode(), where
        case 7:
            return key, json.dumps(body | {"amount": float("nan")}).encode(), where
        case _:
            return key, random.randbytes(random.randrange(1, 200)), where


async def send_poison(
    kafka: str, topics: Topics, apps: tuple[str, ...], partitions: int, random: Random, history: HistoryWriter
) -> int:
    """Send some, each noted before and after; how many Kafka acknowledged. It may be away."""
    publisher = KafkaPublisher(kafka, client_id="poison")
    acknowledged = 0
    try:
        await publisher.start()
        for _ in range(MESSAGES_AT_ONCE):
            app = random.choice(apps)
            key, value, partition = poison(random, partitions)
            history.poison(app, partition, key, value, None)
            record = OutgoingRecord(key, value)  # type: ignore[arg-type]  # what no producer of ours would send
            offset = await publisher.publish(topics.commands(app), partition, [record])
            history.poison(app, partition, key, value, offset)
            acknowledged += 1
            await asyncio.sleep(0)
    except (BrokerUnavailableError, PublishError):
        pass  # what was under way is in doubt, which the audit knows by its missing place
    finally:
        await publisher.stop()
    return acknowledged


def poison_history(home: Path) -> Path:
    """Where they are noted."""
    return home / "history" / "poison.jsonl"
