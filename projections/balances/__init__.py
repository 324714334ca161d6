"""The read model `balances`: what each account holds."""

from typing import Final

from projections.balances.fold import write
from projections.read_model import ReadModel

BALANCES: Final = ReadModel("balances", __name__, write, create=("create_table",), fill=("fill",), drop=("drop_table",))
