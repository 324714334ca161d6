"""The project's own files, as the architecture tests read them."""

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ledger", "consumers", "producers", "projections", "service", "apps")
_OTHER_CODE = ("alembic", "benchmarks", "tests")


def python_files(*folders: str) -> list[Path]:
    """Every Python file below the folders, all of the project's if none is given."""
    return sorted(path for folder in folders or (*PACKAGES, *_OTHER_CODE) for path in (ROOT / folder).rglob("*.py"))


def sql_files() -> list[Path]:
    """Every SQL file of the packages and the migrations."""
    return sorted(path for folder in (*PACKAGES, "alembic") for path in (ROOT / folder).rglob("*.sql"))


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(), filename=str(path))


def name(path: Path) -> str:
    """The path as it is written in messages."""
    return path.relative_to(ROOT).as_posix()


def imported_modules(path: Path) -> set[str]:
    """Absolute names of what the file imports; `from a import b` counts as `a.b`, which may be a module."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found
