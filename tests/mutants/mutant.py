"""A guard of the ledger, and the change of one file that takes it away."""

import re
from dataclasses import dataclass
from pathlib import Path

_ONE_TEST = re.compile(r"(?P<file>tests/[\w/]+\.py)(::(?P<function>\w+))?(\[.+\])?")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One guard that is taken away."""

    name: str
    guard: str
    """What the guard does, in one sentence: it is what no longer holds in the mutant."""
    keeps: str
    """The invariants of the design that it keeps, by number, or the promise in two or three words."""
    file: str
    """Relative to the project's root."""
    old: str
    """Occurs exactly once in the file."""
    new: str
    tests: tuple[str, ...]
    """Where it should be noticed, the quickest first: files, or tests as pytest names them."""

    def mutated(self, root: Path) -> str:
        """The file's text without the guard.

        Raises:
            ValueError: `old` does not occur exactly once: the product has changed, and this list with it.
        """
        text = (root / self.file).read_text()
        if text.count(self.old) != 1:
            raise ValueError(f"{self.name}: its old text occurs {text.count(self.old)} times in {self.file}, not once")
        return text.replace(self.old, self.new)


def part_of_test(test: str) -> tuple[str, str | None]:
    """The file and the function that a test's name names.

    Raises:
        ValueError: it names neither.
    """
    match = _ONE_TEST.fullmatch(test)
    if match is None:
        raise ValueError(f"{test!r} names no test; write tests/FILE.py or tests/FILE.py::FUNCTION")
    return match["file"], match["function"]
