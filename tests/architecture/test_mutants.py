"""The list of mutants fits the code: whoever changes a guard changes its mutant too."""

import ast
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, tree
from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, part_of_test


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_guard_is_where_the_mutant_takes_it_away(mutant: Mutant) -> None:
    assert mutant.file.split("/")[0] in (*PACKAGES, "alembic"), "guards are in the product"
    text = mutant.mutated(ROOT)
    assert text != (ROOT / mutant.file).read_text()
    if mutant.file.endswith(".py"):
        ast.parse(text)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_tests_that_should_notice_exist(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, function = part_of_test(test)
        assert (ROOT / file).exists()
        assert function is None or function in functions(ROOT / file)
