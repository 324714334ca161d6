"""The records of one fetch, read so that no header can break anything.

aiokafka's parser raises UnicodeDecodeError at a header whose key is not UTF-8 (Kafka stores such records), and its
consumer then fetches the same batch for ever. Here the batch is read again by a parser that skips headers, which the
ledger never needs. Everything else, and the fast path, is aiokafka's own parser.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from aiokafka.codec import gzip_decode, lz4_decode, snappy_decode, zstd_decode
from aiokafka.errors import CorruptRecordException
from aiokafka.record.control_record import ABORT_MARKER, ControlRecord
from aiokafka.record.default_records import DefaultRecordBase
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import decode_varint

from ledger.broker.protocol import Record, TopicPartition

_LENGTH_AT: Final = 8
"""Where a batch states its length: after its base offset."""

_LENGTH_COUNTS_FROM: Final = 12

_DECOMPRESS: Final[dict[int, Callable[[bytes], bytes]]] = {
    DefaultRecordBase.CODEC_NONE: bytes,
    DefaultRecordBase.CODEC_GZIP: gzip_decode,
    DefaultRecordBase.CODEC_SNAPPY: snappy_decode,
    DefaultRecordBase.CODEC_LZ4: lz4_decode,
    DefaultRecordBase.CODEC_ZSTD: zstd_decode,
}


class UnreadableLogError(Exception):
    """A batch fails its checksum or has no readable structure: damaged on the way (fetch again) or in the log."""


class FetchedRecords:
    """What one fetch brought of one partition, decoded batch by batch as it is taken.

    `next_offset` is the offset after everything that was taken or passed over (control batches, aborted transactions).
    """

    def __init__(
        self,
        topic_partition: TopicPartition,
        message_set: bytes,
        aborted_transactions: Iterable[tuple[int, int]] | None,
        fetch_offset: int,
    ) -> None:
        self.next_offset = fetch_offset
        self.failure: UnreadableLogError | None = None
        """Set once a batch could not be read; what lay before it was given out and `next_offset` points at it."""
        self._topic_partition = topic_partition
        self._message_set = message_set
        self._batches = MemoryRecords(message_set)
        self._batches_begun = 0
        self._aborted_transactions = sorted(aborted_transactions or (), key=lambda aborted: aborted[1])
        self._aborted_producers: set[int] = set()
        self._decoded: list[Record] = []
        self._taken = 0
        self._offset_after_decoded = fetch_offset

    @property
    def exhausted(self) -> bool:
        """Whether nothing more can be taken."""
        return self.failure is not None or (self._taken == len(self._decoded) and not self._batches.has_next())

    def take(self, records_max: int) -> list[Record]:
        """Up to `records_max` records in offset order; fewer only when exhausted."""
        taken: list[Record] = []
        while (room := records_max - len(taken)) > 0 and not self.exhausted:
            if self._taken == len(self._decoded):
                self._decode_next_batch()
                continue
            part = self._decoded[self._taken : self._taken + room]
            taken += part
            self._taken += len(part)
            all_taken = self._taken == len(self._decoded)
            self.next_offset = self._offset_after_decoded if all_taken else part[-1].offset + 1
        return taken

    def _decode_next_batch(self) -> None:
        try:
            batch = self._batches.next_batch()
            assert batch is not None
            self._batches_begun += 1
            records = self._records_of(batch)
        except Exception as error:  # each codec raises errors of its own, without a common base
            self.failure = UnreadableLogError(f"{self._topic_partition} at offset {self.next_offset}: {error!r}")
            return
        if records and records[0].offset < self.next_offset:  # the batch began before the offset that was asked for
            records = [record for record in records if record.offset >= self.next_offset]
        self._decoded = records
        self._taken = 0
        # A batch keeps its last offset even if compaction has removed the record there.
        self._offset_after_decoded = batch.next_offset
        if not records:
            self.next_offset = batch.next_offset

    def _records_of(self, batch: Any) -> list[Record]:
        if not batch.validate_crc():
            raise CorruptRecordException("wrong checksum")
        if self._is_aborted_or_control(batch):
            return []
        topic, partition = self._topic_partition
        try:
            return [
                Record(topic, partition, record.offset, record.timestamp, record.key, record.value) for record in batch
            ]
        except (UnicodeDecodeError, CorruptRecordException):
            return list(_records_past_headers(self._topic_partition, self._raw_batch()))

    def _is_aborted_or_control(self, batch: Any) -> bool:
        """What `read_committed` leaves out; follows aiokafka.consumer.fetcher.PartitionRecords."""
        producer_id = batch.producer_id
        if producer_id is None:
            return bool(batch.is_control_batch)
        aborted = self._aborted_transactions
        while aborted and aborted[0][1] <= batch.base_offset:
            self._aborted_producers.add(aborted.pop(0)[0])
        if batch.is_control_batch:
            marker = next(iter(batch), None)
            if marker is None or marker.key is None:
                raise CorruptRecordException("a control batch without a marker")
            if ControlRecord.parse(marker.key) == ABORT_MARKER:
                self._aborted_producers.discard(producer_id)
            return True
        return bool(batch.is_transactional) and producer_id in self._aborted_producers

    def _raw_batch(self) -> bytes:
        start = end = 0
        for _ in range(self._batches_begun):
            start = end
            (length,) = struct.unpack_from(">i", self._message_set, start + _LENGTH_AT)
            end = start + _LENGTH_COUNTS_FROM + length
        return self._message_set[start:end]


def _records_past_headers(topic_partition: TopicPartition, batch: bytes) -> Iterator[Record]:
    """Read a batch of format 2, leaping over headers (source: the record format in aiokafka.record.default_records).

    Pure Python, several microseconds a record: only for batches that the fast parser refuses.
    """
    base_offset, _, _, magic, _, attributes, _, first_timestamp, max_timestamp, _, _, _, count = (
        DefaultRecordBase.HEADER_STRUCT.unpack_from(batch)
    )
    if magic < 2:  # older formats have no headers, so what was refused is damaged
        raise CorruptRecordException("unreadable batch of an old format")
    decompress = _DECOMPRESS[attributes & DefaultRecordBase.CODEC_MASK]
    body = bytearray(decompress(batch[DefaultRecordBase.HEADER_STRUCT.size :]))
    stamped_by_broker = bool(attributes & DefaultRecordBase.TIMESTAMP_TYPE_MASK)
    at = 0
    for _ in range(count):
        length, at = decode_varint(body, at)
        end = at + length
        if length < 0 or end > len(body):
            raise CorruptRecordException("a record reaches past its batch")
        at += 1  # the record's attributes, one unused byte
        timestamp_delta, at = decode_varint(body, at)
        offset_delta, at = decode_varint(body, at)
        key, at = _nullable_bytes(body, at, end)
        value, at = _nullable_bytes(body, at, end)
        timestamp = max_timestamp if stamped_by_broker else first_timestamp + timestamp_delta
        yield Record(*topic_partition, base_offset + offset_delta, timestamp, key, value)
        at = end


def _nullable_bytes(body: bytearray, at: int, limit: int) -> tuple[bytes | None, int]:
    length, at = decode_varint(body, at)
    if length < 0:
        return None, at
    if at + length > limit:
        raise CorruptRecordException("a field reaches past its record")
    return bytes(body[at : at + length]), at + length
