"""All read models. A new one is one folder and one line here (source: docs/read-models.md)."""

from typing import Final

from projections.balances import BALANCES
from projections.read_model import ReadModel
from projections.statements import STATEMENTS

READ_MODELS: Final[tuple[ReadModel, ...]] = (
    BALANCES,
    STATEMENTS,
)
