"""What is written is read back the same; keys, hashes and places tell different things apart."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import msgspec
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ledger.domain.chain import event_hash
from ledger.domain.command import Command
from ledger.domain.event import COMMAND_REJECTED, ENTRY_POSTED, RecordedEvent
from ledger.domain.limits import AMOUNT_MAX
from ledger.domain.position import Position
from ledger.event_store.keys import command_key, nonce_key
from ledger.messages.command_codec import decode_command, encode_command
from ledger.messages.command_ids import derived_command_id
from ledger.messages.command_model import CommandModel
from ledger.messages.event_codec import decode_event, encode_event
from ledger.messages.partitioning import partition_of
from tests.properties.wire_texts import json_values, metadata_objects, owner_ids, storable_texts

PARTITIONS = 12
instants = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime.max).map(lambda time: time.replace(tzinfo=UTC))
metadata_texts = metadata_objects.map(lambda value: msgspec.json.encode(value).decode())
int64s = st.integers(-(2**63), 2**63 - 1)
amounts = st.integers(-AMOUNT_MAX, AMOUNT_MAX)
sequences = st.integers(1, 2**40 - 1)
hashes = st.binary(min_size=32, max_size=32)

commands = st.builds(
    Command,
    app=st.just("shop"),
    command_id=st.uuids(),
    operation=storable_texts,
    owner_id=owner_ids,
    nonce=owner_ids,
    issued_at=instants,
    amount=st.none() | int64s,
    credit_type=storable_texts,
    not_after=st.none() | instants,
    metadata=st.none() | metadata_texts,
)

hashed_fields = st.fixed_dictionaries(
    {
        "partition": st.integers(0, 4095),
        "sequence": sequences,
        "app": st.sampled_from(["shop", "shop-2"]),
        "command_id": st.uuids(),
        "operation": storable_texts,
        "owner_id": owner_ids,
        "credit_type": storable_texts,
        "account_version": sequences,
        "amount": amounts,
        "balance_after": amounts,
        "nonce": owner_ids,
        "issued_at": instants,
        "occurred_at": instants,
        "reason": st.none() | storable_texts,
        "detail": st.none() | storable_texts,
        "metadata_digest": st.none() | hashes,
        "command_offset": st.integers(0, 2**63 - 1),
    }
)


@st.composite
def recorded_events(draw: st.DrawFn) -> RecordedEvent:
    fields: dict[str, Any] = draw(hashed_fields)
    metadata = draw(st.none() | metadata_texts)
    for name in ("metadata_digest", "command_offset"):
        del fields[name]
    return RecordedEvent(
        type=ENTRY_POSTED if fields["reason"] is None else COMMAND_REJECTED,
        prev_hash=draw(hashes).hex(),
        hash=draw(hashes).hex(),
        metadata=None if metadata is None else msgspec.Raw(metadata.encode()),
        **fields,
    )


def decode(value: bytes, owner_id: str) -> Any:
    key = owner_id.encode()
    return decode_command("shop", key, value, partition_of(key, PARTITIONS), PARTITIONS)


@given(commands)
def test_a_command_is_read_back_as_it_was_written(command: Command) -> None:
    value = encode_command(command)
    assert decode(value, command.owner_id) == command
    assert CommandModel.from_json(value).command("shop") == command


@given(commands, st.integers(-23 * 60, 23 * 60))
def test_a_command_whose_times_are_in_another_zone_is_the_same(command: Command, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    try:
        elsewhere = command.issued_at.astimezone(zone)
    except OverflowError:
        assume(False)
    moved = msgspec.structs.replace(command, issued_at=elsewhere)
    found = decode(encode_command(moved), command.owner_id)
    assert found == command
    assert found.issued_at.tzinfo is UTC


python_values = json_values | st.datetimes(timezones=st.none() | st.just(UTC)) | st.uuids() | st.binary(max_size=3)


@given(
    st.fixed_dictionaries(
        {
            "command_id": st.uuids() | st.uuids().map(str) | python_values,
            "operation": storable_texts | st.text(max_size=3) | python_values,
            "owner_id": owner_ids | st.text(max_size=130) | python_values,
            "nonce": owner_ids | st.text(max_size=3) | python_values,
            "issued_at": instants | st.just("2026-01-31T12:00:00Z") | python_values,
        },
        optional={
            "amount": int64s | python_values,
            "credit_type": storable_texts | python_values,
            "not_after": instants | python_values,
            "metadata": metadata_objects | python_values,
        },
    )
)
@settings(max_examples=500)
def test_what_the_model_takes_from_python_the_ledger_reads(fields: dict[str, Any]) -> None:
    try:
        command = CommandModel(**fields).command("shop")
    except ValidationError:
        return
    found = decode(encode_command(command), command.owner_id)
    assert found == command
    if "metadata" in fields:
        assert command.metadata is not None
        assert msgspec.json.decode(command.metadata) == fields["metadata"]


@given(recorded_events())
def test_an_event_is_read_back_as_it_was_written(event: RecordedEvent) -> None:
    found = decode_event(encode_event(event))
    for name in RecordedEvent.__struct_fields__:
        if name != "metadata":
            assert getattr(found, name) == getattr(event, name), name
    assert (found.metadata is None) == (event.metadata is None)
    if event.metadata is not None and found.metadata is not None:
        assert bytes(found.metadata) == bytes(event.metadata)
    assert encode_event(found) == encode_event(event)


@given(recorded_events(), st.dictionaries(storable_texts.map(lambda name: f"x-{name}"), json_values, max_size=3))
def test_a_reader_of_events_ignores_fields_that_it_does_not_know(event: RecordedEvent, more: dict[str, Any]) -> None:
    value = encode_event(event)
    extended = b"{" + msgspec.json.encode(more)[1:-1] + (b"," if more else b"") + value[1:]
    assert encode_event(decode_event(extended)) == value


@given(hashed_fields, hashed_fields, st.sets(st.sampled_from(list(RecordedEvent.__struct_fields__))), hashes)
def test_events_that_differ_have_different_hashes(
    one: dict[str, Any], other: dict[str, Any], taken: set[str], prev_hash: bytes
) -> None:
    mixed = {name: other[name] if name in taken else value for name, value in one.items()}
    same = event_hash(prev_hash, **mixed) == event_hash(prev_hash, **one)
    assert same == (mixed == one)


@given(st.integers(0, 4095), sequences)
def test_a_position_is_read_back_from_its_text_and_its_number(partition: int, sequence: int) -> None:
    position = Position(partition, sequence)
    assert Position.parse(str(position)) == Position.of_entry_id(position.entry_id) == position


@given(st.text(max_size=12))
def test_a_text_is_a_position_only_if_it_is_written_so(text: str) -> None:
    try:
        position = Position.parse(text)
    except ValueError:
        return
    partition, sequence = text.split(":")
    assert (position.partition, position.sequence) == (int(partition), int(sequence))


@given(st.binary(max_size=140) | owner_ids.map(str.encode), st.integers(1, 64))
def test_the_ledger_and_producers_put_a_key_on_the_same_partition(key: bytes, partitions: int) -> None:
    everything = list(range(partitions))
    assert partition_of(key, partitions) == DefaultPartitioner()(key, everything, everything)


names = st.lists(st.sampled_from(["a", "b", "ab", "", "1:", "é", "shop"]), max_size=4).map(tuple)


@given(names, names)
def test_different_parts_derive_different_command_ids(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert (derived_command_id(*one) == derived_command_id(*other)) == (one == other)


scopes = st.tuples(st.sampled_from(["a", "ab", "a-b"]), st.sampled_from(["b", "c", "bc", "\x01"]), st.text(max_size=2))


few_ids = st.sampled_from([UUID(int=1), UUID(int=2)])


@given(scopes, scopes, few_ids, few_ids)
def test_keys_are_equal_only_for_the_same_app_owner_and_nonce_or_id(
    one: tuple[str, str, str], other: tuple[str, str, str], id_of_one: UUID, id_of_other: UUID
) -> None:
    assume("\0" not in one[2] + other[2])
    assert (nonce_key(*one) == nonce_key(*other)) == (one == other)
    same = (one[:2], id_of_one) == (other[:2], id_of_other)
    assert (command_key(*one[:2], id_of_one) == command_key(*other[:2], id_of_other)) == same
    assert command_key(*one[:2], id_of_one) == command_key(*one[:2], id_of_one)
