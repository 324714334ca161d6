"""SQL lies in .sql files: one statement each, loaded by name, none of it in Python."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, name, python_files, sql_files, tree

_STATEMENT = re.compile(
    r"^\s*(WITH\s+\w+\s+AS\b|SELECT\b.+\bFROM\b|INSERT\s+INTO\b|UPDATE\s+\S+\s+SET\b|DELETE\s+FROM\b|MERGE\s+INTO\b"
    r"|(CREATE|ALTER|DROP)\s+(TABLE|INDEX|SCHEMA|ROLE|DATABASE|FUNCTION|TRIGGER|VIEW)\b|GRANT\b.+\bTO\b"
    r"|REVOKE\b.+\bFROM\b|TRUNCATE\s+\w|COPY\s+\w+.*\b(FROM|TO)\b|LISTEN\s+\w|NOTIFY\s+\w|SET\s+(LOCAL|ROLE)\b)",
    re.DOTALL,
)


@pytest.mark.parametrize("path", python_files(*PACKAGES, "alembic"), ids=name)
def test_no_sql_in_python(path: Path) -> None:
    found = [
        f"line {node.lineno}: {node.value.strip()[:60]}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _STATEMENT.match(node.value)
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["SELECT balance\nFROM account", "INSERT INTO x VALUES (1)", "update x set y = 1", "CREATE TABLE x ()"],
)
def test_sql_would_be_noticed(text: str) -> None:
    assert _STATEMENT.match(text.upper())


@pytest.mark.parametrize("path", sql_files(), ids=name)
def test_one_statement_in_a_file(path: Path) -> None:
    assert len(_statements(path.read_text())) == 1


@pytest.mark.parametrize("path", [path for path in sql_files() if path.parts[-2] == "sql"], ids=name)
def test_every_statement_is_used_by_its_package(path: Path) -> None:
    package = path.parents[1]
    names = {
        node.value
        for file in package.rglob("*.py")
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert path.stem in names or path.name in names


def test_statements_are_told_apart_from_what_is_quoted() -> None:
    assert len(_statements("-- one; two\nSELECT ';' /* ; */ ;")) == 1
    assert len(_statements("DO $$ BEGIN a; b; END $$;")) == 1
    assert len(_statements("CREATE FUNCTION f() AS $body$ a; b; $body$")) == 1
    assert len(_statements("SELECT 1; SELECT 2")) == 2


def _statements(text: str) -> list[str]:
    comments = r"--[^\n]*|/\*.*?\*/"
    quoted = r"(?P<mark>\$\w*\$).*?(?P=mark)|'(?:[^']|'')*'|\"[^\"]*\""
    bare = re.sub(f"{quoted}|{comments}", " x ", text, flags=re.DOTALL)
    without_comments = [part for part in bare.split(";") if part.replace("x", "").strip()]
    return without_comments
