"""Bad input: each ends as the event or the quarantine row that the design says, and the commands around it go on."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from apps.example_app.operations import ExampleAppOperations
from ledger.domain.command import Command
from ledger.messages.command_codec import encode_command
from ledger.operations import BaseLedgerOperations
from tests.ledger_on_servers import LedgerOnServers, command, ledger_on_servers

OWNER = "ada"


class SpenderOperations(BaseLedgerOperations):
    """An app that may only spend."""

    app = "spender"
    allowed_base_operations = frozenset({"CREDIT_SPEND"})


@pytest.fixture
async def ledger(kafka_bootstrap: str, empty_database_url: str) -> AsyncIterator[LedgerOnServers]:
    classes = (ExampleAppOperations, SpenderOperations)
    async with ledger_on_servers(kafka_bootstrap, empty_database_url, classes=classes) as running:
        yield running


def changed(**fields: Any) -> bytes:
    """A good command's value with these fields instead."""
    return json.dumps({**json.loads(encode_command(command(OWNER))), **fields}).encode()


def without(field: str) -> bytes:
    fields = json.loads(encode_command(command(OWNER)))
    del fields[field]
    return json.dumps(fields).encode()


def raw_amount(text: str) -> bytes:
    # With the field's name: four digits alone can stand in a random id, too.
    return changed(amount=4242).replace(b'"amount": 4242', b'"amount": ' + text.encode())


@dataclass(frozen=True)
class Unreadable:
    """A message, and the reason by which it is quarantined."""

    name: str
    value: bytes | None
    reason: str
    key: bytes | None = OWNER.encode()
    wrong_partition: bool = False


UNREADABLE = [
    Unreadable("not JSON", b"hello", "NOT_JSON"),
    Unreadable("truncated", encode_command(command(OWNER))[:-9], "NOT_JSON"),
    Unreadable("empty", b"", "NOT_JSON"),
    Unreadable("null value", None, "NULL_VALUE"),
    Unreadable("JSON null", b"null", "INVALID_FIELD"),
    Unreadable("an array", b"[1]", "INVALID_FIELD"),
    Unreadable("not UTF-8", changed(nonce="XX").replace(b"XX", b"\xff\xfe"), "NOT_JSON"),
    Unreadable("operation is a number", changed(operation=5), "INVALID_FIELD"),
    Unreadable("command id is no UUID", changed(command_id="5"), "INVALID_FIELD"),
    Unreadable("NaN", raw_amount("NaN"), "NOT_JSON"),
    Unreadable("amount is a text", raw_amount('"5"'), "INVALID_FIELD"),
    Unreadable("amount is a float", raw_amount("5.0"), "INVALID_FIELD"),
    Unreadable("amount is 1e400", raw_amount("1e400"), "INVALID_FIELD"),
    Unreadable("amount beyond int64", raw_amount("9223372036854775808"), "INVALID_FIELD"),
    Unreadable("amount is null", raw_amount("null"), "INVALID_FIELD"),
    Unreadable("missing nonce", without("nonce"), "INVALID_FIELD"),
    Unreadable("missing owner_id", without("owner_id"), "INVALID_FIELD"),
    Unreadable("unknown field", changed(amuont=5), "INVALID_FIELD"),
    Unreadable("unknown field with NUL in its name", changed(**{"a\0b": 5}), "INVALID_FIELD"),
    Unreadable("owner_id empty", changed(owner_id=""), "INVALID_FIELD", b""),
    Unreadable("owner_id of 129 characters", changed(owner_id="x" * 129), "INVALID_FIELD", b"x" * 129),
    Unreadable("owner_id with NUL", changed(owner_id="a\0b"), "INVALID_FIELD", b"a\0b"),
    Unreadable("owner_id with a lone surrogate", changed(owner_id="\ud800"), "NOT_JSON"),
    Unreadable("operation with NUL", changed(operation="A\0"), "INVALID_FIELD"),
    Unreadable("metadata of 4097 bytes", changed(metadata={"a": "x" * 4088}), "INVALID_FIELD"),
    Unreadable("metadata is a list", changed(metadata=[]), "INVALID_FIELD"),
    Unreadable("metadata with a lone surrogate", changed(metadata={"a": "\ud800"}), "NOT_JSON"),
    Unreadable(
        "nested too deeply", changed(metadata={"a": 4242}).replace(b'"a": 4242', b'"a": ' + b"[" * 2000), "NOT_JSON"
    ),
    Unreadable("issued_at without a zone", changed(issued_at="2026-01-01T00:00:00"), "INVALID_FIELD"),
    Unreadable("not_after is no time", changed(not_after="tomorrow"), "INVALID_FIELD"),
    Unreadable("wrong key", changed(), "WRONG_KEY", b"somebody else"),
    Unreadable("no key", changed(), "WRONG_KEY", None),
    Unreadable("wrong partition", changed(), "WRONG_PARTITION", wrong_partition=True),
]


@pytest.mark.parametrize("bad", UNREADABLE, ids=lambda bad: bad.name)
async def test_unreadable_input_is_told_apart(bad: Unreadable) -> None:
    from ledger.messages.command_codec import Unreadable as Refused
    from ledger.messages.command_codec import decode_command
    from ledger.messages.partitioning import partition_of

    right = partition_of(bad.key or b"", 4)
    found = decode_command("example-app", bad.key, bad.value, right + 1 if bad.wrong_partition else right, 4)
    assert isinstance(found, Refused)
    assert found.reason == bad.reason


async def test_each_unreadable_message_between_two_good_commands_is_quarantined_byte_for_byte(
    ledger: LedgerOnServers,
) -> None:
    partition = ledger.partition(OWNER)
    offsets = {}
    for bad in UNREADABLE:
        await ledger.send(command(OWNER, amount=1))
        where = (partition + 1) % ledger.partitions if bad.wrong_partition else partition
        offsets[bad.name] = (where, await ledger.send_bytes(bad.value, bad.key, partition=where))
    await ledger.send(command(OWNER, amount=1))
    async with ledger.running():
        await ledger.until_events(len(UNREADABLE) + 1)
        await ledger.until("SELECT count(*) FROM ledger.quarantine", len(UNREADABLE))
    rows = await ledger.pool.fetch("SELECT * FROM ledger.quarantine WHERE status = 'waiting'")
    found = {(row["partition"], row["command_offset"]): row for row in rows}
    for bad in UNREADABLE:
        row = found[offsets[bad.name]]
        assert (row["app"], row["reason"]) == ("example-app", bad.reason), bad.name
        assert (row["key"], row["value"]) == (bad.key, bad.value), bad.name
        assert row["detail"], bad.name
    assert [event.balance_after for event in await ledger.events()] == list(range(1, len(UNREADABLE) + 2))


async def test_two_megabytes_and_bad_headers_between_good_commands(ledger: LedgerOnServers) -> None:
    good = [command(OWNER, amount=1) for _ in range(4)]
    huge = changed(metadata={"a": "x" * 2_000_000})
    async with AIOKafkaProducer(
        bootstrap_servers=ledger.bootstrap, compression_type="gzip", max_request_size=4_000_000
    ) as producer:
        topic, partition = ledger.topics.commands("example-app"), ledger.partition(OWNER)

        async def send(value: bytes, headers: list[tuple[str, Any]] | None = None) -> None:
            await producer.send_and_wait(topic, value, OWNER.encode(), partition, headers=headers or [])

        await send(encode_command(good[0]))
        await send(huge)
        await send(encode_command(good[1]), [("traceparent", b"\xff\xfe")])
        await send(encode_command(good[2]), [("empty", b""), ("nothing", None)])
        await send(encode_command(good[3]))
    async with ledger.running():
        await ledger.until_events(4)
        await ledger.until("SELECT length(value) FROM ledger.quarantine", len(huge))
    assert [event.command_id for event in await ledger.events()] == [one.command_id for one in good]


@dataclass(frozen=True)
class Rejected:
    """A readable command, and the reason by which it is rejected."""

    name: str
    make: Callable[[], Command]
    reason: str


REJECTED = [
    Rejected("unknown operation", lambda: command(OWNER, "FLY"), "UNKNOWN_OPERATION"),
    Rejected("operation that the app may not use", lambda: command(OWNER, app="spender"), "OPERATION_NOT_ALLOWED"),
    Rejected("undeclared credit type", lambda: command(OWNER, credit_type="gold"), "UNKNOWN_CREDIT_TYPE"),
    Rejected("amount of 0", lambda: command(OWNER, amount=0), "INVALID_AMOUNT"),
    Rejected("negative amount", lambda: command(OWNER, amount=-5), "INVALID_AMOUNT"),
    Rejected("positive spend", lambda: command(OWNER, "CREDIT_SPEND", 5), "INVALID_AMOUNT"),
    Rejected("2^53", lambda: command(OWNER, amount=2**53), "INVALID_AMOUNT"),
    Rejected("-2^63", lambda: command(OWNER, "CREDIT_SPEND", -(2**63)), "INVALID_AMOUNT"),
    Rejected("amount that only the app sets", lambda: command(OWNER, "DAILY_REWARD", 2), "INVALID_AMOUNT"),
    Rejected("not_after has passed", lambda: command(OWNER, not_after=datetime(2020, 1, 1, tzinfo=UTC)), "EXPIRED"),
    Rejected("used nonce", lambda: command(OWNER, nonce="used"), "DUPLICATE_NONCE"),
    Rejected("more than there is", lambda: command(OWNER, "CREDIT_SPEND", -1_000_000), "INSUFFICIENT_CREDITS"),
    Rejected("beyond 2^53-1", lambda: command(OWNER, amount=2**53 - 1), "BALANCE_OVERFLOW"),
]


async def test_each_readable_but_refused_command_becomes_a_rejection_between_two_good_ones(
    ledger: LedgerOnServers,
) -> None:
    sent = [command(OWNER, amount=1, nonce="used")]
    for bad in REJECTED:
        sent += [bad.make(), command(OWNER, amount=1)]
    # One by one: an owner's commands from two apps have no order between them.
    async with ledger.running():
        for count, one in enumerate(sent, 1):
            await ledger.send(one)
            await ledger.until_events(count)
    events = await ledger.events()
    assert [event.command_id for event in events] == [one.command_id for one in sent]
    assert [event.reason for event in events[1::2]] == [bad.reason for bad in REJECTED]
    assert all(event.accepted for event in events[::2])
    assert events[-1].balance_after == len(REJECTED) + 1


async def test_a_command_id_used_before_with_another_body_is_answered_by_the_first_event(
    ledger: LedgerOnServers,
) -> None:
    first = command(OWNER, amount=1)
    other = command(OWNER, amount=999, command_id=first.command_id)
    async with ledger.running():
        await ledger.send(first, other, command(OWNER, amount=2))
        await ledger.until_events(2)
        await ledger.until_published()
    assert [event.amount for event in await ledger.events()] == [1, 2]
    assert [event.amount for _, event in await ledger.published(ledger.topics.replays)] == [1]


async def test_topics_of_unregistered_apps_and_of_another_size_are_left_alone(ledger: LedgerOnServers) -> None:
    from ledger.broker.protocol import TopicSpec

    stranger, wrong_size = ledger.topics.commands("stranger"), ledger.topics.commands("spender")
    await ledger.admin.create([TopicSpec(stranger, ledger.partitions, 1, -1)])
    await _recreate(ledger, wrong_size, ledger.partitions + 3)
    await ledger.send(command(OWNER, amount=1, app="stranger"), command(OWNER, amount=1))
    async with ledger.running():
        await ledger.until_events(1)
        await ledger.send(command(OWNER, amount=1))
        await ledger.until_events(2)
    assert {event.app for event in await ledger.events()} == {"example-app"}
    assert await ledger.pool.fetchval("SELECT count(*) FROM ledger.command_offset WHERE app <> 'example-app'") == 0


async def _recreate(ledger: LedgerOnServers, topic: str, partitions: int) -> None:
    from aiokafka.admin import AIOKafkaAdminClient, NewTopic
    from aiokafka.errors import TopicAlreadyExistsError

    admin = AIOKafkaAdminClient(bootstrap_servers=ledger.bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        while topic in await admin.list_topics():
            continue
        while True:  # a broker forgets a deleted topic a little after it has stopped listing it
            answer: Any = await admin.create_topics([NewTopic(topic, partitions, 1)])
            if not any(code == TopicAlreadyExistsError.errno for _, code, *_ in answer.topic_errors):
                break
    finally:
        await admin.close()
