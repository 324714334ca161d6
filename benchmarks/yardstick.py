"""How fast the machine is just now: the CPU time that the same piece of Python takes.

Others on the machine slow down even CPU time, because they share caches and the cores' units: figures of two runs
between which the yardstick changed differ by that, and not by what was changed in the ledger.
"""

import time
from functools import cache
from hashlib import blake2b
from typing import Final

ROUNDS: Final = 20
COMMANDS: Final = 5_000
ACCOUNTS: Final = 200_000
"""So many that they do not fit into the caches of a core."""

_STRIDE: Final = 104_729
"""Prime to their number: neighbours in time are none in memory."""


def yardstick_us() -> float:
    """CPU microseconds for a look at an account, a change, and a hash of a text that is made for it, somewhat as the
    ledger does for each command: the median of some rounds, together about 0.2 s."""
    accounts = _accounts()
    rounds = []
    place = 0
    for _ in range(ROUNDS):
        began = time.process_time()
        last = bytes(32)
        for number in range(COMMANDS):
            place = (place + _STRIDE) % ACCOUNTS
            owner = f"owner-{place:010d}"
            balance, version = accounts[owner]
            accounts[owner] = (balance + 10, version + 1)
            text = f"1\0{number}\0example-app\0CREDIT_ADD\0{owner}\0credits\0{balance}\0{version}"
            last = blake2b(last + text.encode(), digest_size=32).digest()
        rounds.append(time.process_time() - began)
    return sorted(rounds)[ROUNDS // 2] / COMMANDS * 1e6


@cache
def _accounts() -> dict[str, tuple[int, int]]:
    return {f"owner-{number:010d}": (number, 0) for number in range(ACCOUNTS)}
