"""How long to wait before trying again."""

from random import Random
from typing import Final

FIRST_S: Final = 0.1
LONGEST_S: Final = 5.0


class BackOff:
    """Doubles from FIRST_S to LONGEST_S, with jitter, so that many processes do not come back at one moment."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next = FIRST_S

    def next_s(self) -> float:
        """The next wait in seconds: between half and the whole of the step."""
        step = self._next
        self._next = min(self._next * 2, LONGEST_S)
        return step * (0.5 + self._random.random() / 2)

    def reset(self) -> None:
        """It worked: begin anew."""
        self._next = FIRST_S
