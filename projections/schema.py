"""The part of the schema `projections` that migrations make, declared; a test compares the two.

Every version of a read model has tables of its own beside these, declared by `sql/create_*.sql` in its folder.
"""

from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Integer, LargeBinary, MetaData, PrimaryKeyConstraint, Table, text
from sqlalchemy import Text as SqlText

metadata: Final = MetaData(schema="projections")


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, SqlText(collation="C"), nullable=nullable)


read_model: Final = Table(
    "read_model",
    metadata,
    _text("name"),
    Column("active_version", Integer, nullable=False),
    Column("activated_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")),
    PrimaryKeyConstraint("name", name="read_model_pkey"),
    comment="Which version of each read model queries read and workers feed.",
)

checkpoint: Final = Table(
    "checkpoint",
    metadata,
    _text("read_model"),
    Column("version", Integer, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("epoch", BigInteger, nullable=False, server_default=text("0")),
    Column("sequence", BigInteger, nullable=False, server_default=text("0")),
    Column("next_offset", BigInteger),
    Column("claimed_at", DateTime(timezone=True)),
    Column("hash", LargeBinary, nullable=False),
    _text("holder", nullable=True),
    _text("halted_because", nullable=True),
    PrimaryKeyConstraint("read_model", "version", "partition", name="checkpoint_pkey"),
    postgresql_with={"fillfactor": "50"},
    comment="How far each version of a read model has got on each partition, and the fence of its holder.",
)
