"""A field that is given twice: readers of JSON disagree on which one counts, so such a command is unreadable."""

import json


def repeated_field(value: bytes) -> str | None:
    """The first name that the outermost object of a valid JSON text gives twice, or None.

    Raises:
        ValueError, RecursionError: the text cannot be read in full.
    """
    pairs = json.loads(value.decode(), object_pairs_hook=list)
    names: set[str] = set()
    for name, _ in pairs:
        if name in names:
            return str(name)
        names.add(name)
    return None
