"""The auditor is independent: it knows DESIGN.md, the standard library, and nothing that it audits."""

import sys
from pathlib import Path

import pytest

from tests.architecture.sources import imported_modules, name, python_files


@pytest.mark.parametrize("path", python_files("tests/auditor"), ids=name)
def test_the_auditor_imports_nothing_of_the_product(path: Path) -> None:
    allowed = sys.stdlib_module_names | {"tests"}
    imported = imported_modules(path)
    assert {module for module in imported if module.split(".")[0] not in allowed} == set()
    assert {
        module for module in imported if module.startswith("tests.") and not module.startswith("tests.auditor")
    } == set()
