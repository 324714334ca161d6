"""Reading what a fetch brought: every record, whatever its headers; nothing of aborted transactions."""

import gzip
from collections.abc import Sequence

import pytest
from aiokafka.record.default_records import DefaultRecordBatch

from ledger.broker.fetched_records import FetchedRecords
from ledger.broker.protocol import Record, TopicPartition
from tests.record_batches import (
    ABORT,
    CODECS,
    COMMIT,
    NOT_UTF8,
    RawRecord,
    batch,
    control_batch,
    transactional_batch,
)

PLACE = TopicPartition("t", 3)


def fetched(message_set: bytes, fetch_offset: int = 0, aborted: Sequence[tuple[int, int]] = ()) -> FetchedRecords:
    return FetchedRecords(PLACE, message_set, aborted, fetch_offset)


def offsets(records: Sequence[Record]) -> list[int]:
    return [record.offset for record in records]


def numbered(count: int, bad_header_at: int | None = None) -> list[RawRecord]:
    return [
        RawRecord(b"owner", b"%d" % number + b"." * 100, [(NOT_UTF8, b"h")] if number == bad_header_at else [])
        for number in range(count)
    ]


@pytest.mark.parametrize("codec", CODECS)
def test_a_header_that_is_not_utf8_hides_no_record(codec: str) -> None:
    message_set = (
        batch(numbered(3), 0, codec) + batch(numbered(5, bad_header_at=2), 3, codec) + batch(numbered(2), 8, codec)
    )
    records = fetched(message_set)
    taken = records.take(100)
    assert offsets(taken) == list(range(10))
    assert [record.value for record in taken[3:8]] == [raw.value for raw in numbered(5)]
    assert [record.timestamp_ms for record in taken[3:8]] == [1_700_000_000_000 + number for number in range(5)]
    assert records.exhausted
    assert records.next_offset == 10


@pytest.mark.parametrize(
    "record",
    [
        RawRecord(b"k", b"v", [(b"null value", None)]),
        RawRecord(b"k", b"v", [(b"", b"")]),
        RawRecord(b"k", b"v", [(NOT_UTF8, None), (b"other", b"\xff")]),
        RawRecord(None, b"v", [(NOT_UTF8, b"h")]),
        RawRecord(b"k", None, [(NOT_UTF8, b"h")]),
        RawRecord(b"", b"", [(NOT_UTF8, b"")]),
        RawRecord(None, None, [(NOT_UTF8, b"")]),
        RawRecord(b"k", b"x" * 2_000_000, [(NOT_UTF8, b"h" * 70_000)]),
    ],
)
def test_keys_and_values_come_through_beside_any_header(record: RawRecord) -> None:
    taken = fetched(batch([RawRecord(b"a", b"a"), record, RawRecord(b"z", b"z")])).take(10)
    assert [(read.key, read.value) for read in taken] == [(b"a", b"a"), (record.key, record.value), (b"z", b"z")]


def test_the_fast_parser_does_refuse_such_a_header() -> None:
    """Otherwise the tests above would test nothing, and the slow parser could go."""
    with pytest.raises(UnicodeDecodeError):
        list(DefaultRecordBatch(batch(numbered(3, bad_header_at=1))))


@pytest.mark.parametrize("bad_header_at", [None, 7])
def test_taking_little_by_little_gives_the_same_and_keeps_the_place(bad_header_at: int | None) -> None:
    message_set = batch(numbered(10, bad_header_at)) + batch(numbered(10), 10)
    records = fetched(message_set, fetch_offset=4)  # a batch begins before the offset that was asked for
    taken: list[Record] = []
    while not records.exhausted:
        part = records.take(3)
        assert 0 < len(part) <= 3
        taken += part
        assert records.next_offset == taken[-1].offset + 1
    assert offsets(taken) == list(range(4, 20))


def test_the_rest_of_a_batch_that_was_cut_off_is_left_for_the_next_fetch() -> None:
    records = fetched(batch(numbered(4)) + batch(numbered(4), 4)[:-5])
    assert offsets(records.take(100)) == [0, 1, 2, 3]
    assert records.exhausted
    assert records.failure is None
    assert records.next_offset == 4


def test_a_fetch_without_records() -> None:
    records = fetched(b"", fetch_offset=17)
    assert records.exhausted
    assert records.take(10) == []
    assert records.next_offset == 17


def test_a_damaged_batch_is_told_and_what_lies_before_it_is_given_out() -> None:
    damaged = bytearray(batch(numbered(4), 4))
    damaged[-1] ^= 1
    records = fetched(batch(numbered(4)) + bytes(damaged) + batch(numbered(4), 8))
    assert offsets(records.take(100)) == [0, 1, 2, 3]
    assert records.exhausted
    assert "offset 4" in str(records.failure)
    assert records.next_offset == 4


def test_a_body_that_its_codec_refuses_is_told() -> None:
    whole = gzip.compress(b"x" * 1_000)
    sound = batch(numbered(50), 0, "gzip")
    from aiokafka.record.util import calc_crc32c

    body = bytearray(sound[:61] + whole[: len(sound) - 61].ljust(len(sound) - 61, b"\0"))
    body[17:21] = calc_crc32c(bytes(body[21:])).to_bytes(4, "big")
    records = fetched(bytes(body))
    assert records.take(100) == []
    assert records.failure is not None
    assert records.next_offset == 0


def test_transactions_that_were_aborted_are_passed_over_and_committed_ones_are_read() -> None:
    message_set = (
        transactional_batch([b"aborted"] * 2, 0, producer_id=7)
        + transactional_batch([b"committed"] * 2, 2, producer_id=8)
        + control_batch(ABORT, 4, producer_id=7)
        + control_batch(COMMIT, 5, producer_id=8)
        + transactional_batch([b"committed later"], 6, producer_id=7)
        + control_batch(COMMIT, 7, producer_id=7)
    )
    records = fetched(message_set, aborted=[(7, 0)])
    taken = records.take(100)
    assert [(record.offset, record.value) for record in taken] == [
        (2, b"committed"),
        (3, b"committed"),
        (6, b"committed later"),
    ]
    records.take(1)
    assert records.exhausted
    assert records.next_offset == 8, "past the last marker, or the reader would never be caught up"
