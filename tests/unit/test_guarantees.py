"""The page of guarantees names tests and mutants that exist, and every mutant."""

import ast
import re
from functools import cache

from tests.docs_pages import ROOT, text_of
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import part_of_test

PAGE = "docs/guarantees.md"
NAME = re.compile(r"`([^`\s]+)`")


@cache
def functions(file: str) -> set[str]:
    nodes = ast.walk(ast.parse((ROOT / file).read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def lists_of(what: str) -> list[list[str]]:
    """What stands behind `- Tests:` or `- Mutants:`, promise by promise."""
    items = re.findall(rf"^- {what}:((?:.|\n(?!\n|- ))*)", text_of(PAGE), re.MULTILINE)
    return [NAME.findall(item) for item in items]


def test_every_test_that_the_page_names_exists() -> None:
    named = [name for name in NAME.findall(text_of(PAGE)) if name.startswith("tests/") and name.endswith(".py")]
    named += [name for name in NAME.findall(text_of(PAGE)) if "::" in name]
    assert len(named) > 50
    for name in named:
        file, function = part_of_test(name)
        assert (ROOT / file).exists(), name
        assert function is None or function in functions(file), name


def test_every_promise_names_tests_and_mutants() -> None:
    promises = re.findall(r"^\*\*", text_of(PAGE), re.MULTILINE)
    assert len(lists_of("Tests")) == len(lists_of("Mutants")) == len(promises)
    assert all(lists_of("Tests"))
    assert all(lists_of("Mutants"))


def test_every_mutant_is_named_once_and_no_other() -> None:
    named = [name for names in lists_of("Mutants") for name in names]
    assert sorted(named) == sorted(mutant.name for mutant in MUTANTS)
