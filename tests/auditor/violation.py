"""What an auditor raises, and how it says it."""


class ViolationError(AssertionError):
    """An invariant of DESIGN.md is broken; the text says which one, and where."""


def expect(truth: bool, number: int, what: str) -> None:
    """Raise unless it is true. `number` is that of the invariant."""
    if not truth:
        raise ViolationError(f"invariant {number}: {what}")
