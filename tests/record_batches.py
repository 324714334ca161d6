"""Record batches as any client may write them: headers of any bytes, any compression, control batches."""

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aiokafka.record.default_records import DefaultRecordBase, _DefaultRecordBatchBuilderPy

CODECS: Final = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
NOT_UTF8: Final = b"\xff\xfe key"
ABORT: Final = 0
COMMIT: Final = 1
_BYTES_MAX: Final = 2**30
_ANY_TIME_MS: Final = 1_700_000_000_000


class RawRecord(NamedTuple):
    """A record with headers as bytes."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[bytes, bytes | None]] = ()


class _HeaderKey(str):
    """A header's key that encodes to whatever bytes were asked for."""

    raw: bytes

    def encode(self, *_: Any) -> bytes:
        return self.raw


class RawBatchBuilder(_DefaultRecordBatchBuilderPy):  # type: ignore[misc]
    """aiokafka's builder, which lets anything through."""

    extra_attributes = 0

    def append_raw(self, offset: int, record: RawRecord) -> None:
        headers: list[tuple[str, bytes | None]] = []
        for raw, value in record.headers:
            key = _HeaderKey("key")
            key.raw = raw
            headers.append((key, value))
        self.append(offset, _ANY_TIME_MS + offset, record.key, record.value, headers)

    def _get_attributes(self, include_compression_type: bool = True) -> int:
        return super()._get_attributes(include_compression_type) | self.extra_attributes


def builder(codec: str = "none", producer_id: int = -1, transactional: bool = False) -> RawBatchBuilder:
    """An empty batch."""
    return RawBatchBuilder(
        magic=2,
        compression_type=CODECS[codec],
        is_transactional=transactional,
        producer_id=producer_id,
        producer_epoch=0 if producer_id >= 0 else -1,
        base_sequence=0,
        batch_size=_BYTES_MAX,
    )


def stored(built: RawBatchBuilder, base_offset: int) -> bytes:
    """The batch as a log holds it: brokers write the base offset, which the checksum leaves out."""
    return struct.pack(">q", base_offset) + bytes(built.build()[8:])


def batch(records: Sequence[RawRecord], base_offset: int = 0, codec: str = "none") -> bytes:
    """A batch in a log."""
    built = builder(codec)
    for number, record in enumerate(records):
        built.append_raw(number, record)
    return stored(built, base_offset)


def transactional_batch(values: Sequence[bytes], base_offset: int, producer_id: int) -> bytes:
    """A batch of a transaction."""
    built = builder(producer_id=producer_id, transactional=True)
    for number, value in enumerate(values):
        built.append_raw(number, RawRecord(b"k", value))
    return stored(built, base_offset)


def control_batch(marker: int, base_offset: int, producer_id: int) -> bytes:
    """The end of a transaction: ABORT or COMMIT."""
    built = builder(producer_id=producer_id, transactional=True)
    built.extra_attributes = DefaultRecordBase.CONTROL_MASK
    built.append_raw(0, RawRecord(struct.pack(">hh", 0, marker), struct.pack(">hi", 0, 0)))
    return stored(built, base_offset)
