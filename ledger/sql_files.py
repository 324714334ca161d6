"""SQL lies in files, one statement each, named for what it does; this reads them."""

from functools import cache
from importlib import resources


@cache
def sql(package: str, name: str) -> str:
    """The statement in `<package>/sql/<name>.sql`.

    Raises:
        FileNotFoundError: there is no such statement.
    """
    return resources.files(package).joinpath("sql", f"{name}.sql").read_text()
