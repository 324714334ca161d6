"""Who gives a command, for the record."""

import getpass


def login() -> str:
    """The login of whoever runs this process."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "an unnamed user"
