"""An account: one owner's balance of one credit type."""

from typing import Final

import msgspec


class Account(msgspec.Struct, frozen=True, gc=False):
    """An account's state, built by `evolve` alone. `version` counts its accepted entries."""

    balance: int = 0
    version: int = 0


EMPTY_ACCOUNT: Final = Account()
