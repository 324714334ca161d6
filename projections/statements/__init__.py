"""The read model `statements`: what happened on each owner's accounts, entry by entry."""

from typing import Final

from projections.read_model import ReadModel
from projections.statements.fold import write

STATEMENTS: Final = ReadModel(
    "statements",
    __name__,
    write,
    create=("create_table",),
    fill=("fill",),
    drop=("drop_table",),
    index=("add_primary_key",),
)
