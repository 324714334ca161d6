"""Where an event lies: its partition and its sequence."""

from typing import NamedTuple

from ledger.domain.limits import SEQUENCE_BITS


class Position(NamedTuple):
    """The place of an event. As text, `partition:sequence`."""

    partition: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Read `partition:sequence`.

        Raises:
            ValueError: the text is not two non-negative integers around one colon.
        """
        partition, colon, sequence = text.partition(":")
        digits = partition + sequence
        if not colon or not partition or not sequence or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"not a position: {text!r}; expected PARTITION:SEQUENCE, for example 3:17")
        return cls(int(partition), int(sequence))

    @property
    def entry_id(self) -> int:
        """The number that people and HTTP use: partition * 2^40 + sequence."""
        return (self.partition << SEQUENCE_BITS) + self.sequence

    @classmethod
    def of_entry_id(cls, entry_id: int) -> "Position":
        """The inverse of `entry_id`."""
        return cls(entry_id >> SEQUENCE_BITS, entry_id & ((1 << SEQUENCE_BITS) - 1))
