"""Who may import whom: import-linter's contracts, and the rules that they cannot express."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, imported_modules, name, python_files, tree

# What an app may use of each package (DESIGN: Seams). The rest of a package is its own business.
OPEN_TO_APPS = ("ledger", "producers", "projections.http", "consumers.subscriber")
CLOSED_TO_APPS = ("ledger.event_store", "ledger.broker", "ledger.testing")


def test_the_contracts_of_import_linter_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("path", python_files("apps"), ids=name)
def test_apps_use_what_is_meant_for_them(path: Path) -> None:
    ours = {module for module in imported_modules(path) if module.split(".")[0] in PACKAGES}
    ours = {module for module in ours if not module.startswith("apps.")}
    allowed = {module for module in ours if _is_below(module, OPEN_TO_APPS)}
    assert ours - allowed == set()
    assert {module for module in ours if _is_below(module, CLOSED_TO_APPS)} == set()


@pytest.mark.parametrize("path", sorted((ROOT / "apps").glob("*/operations.py")), ids=name)
def test_an_apps_operations_know_the_ledger_only(path: Path) -> None:
    ours = {module for module in imported_modules(path) if module.split(".")[0] in PACKAGES}
    assert {module.split(".")[0] for module in ours} <= {"ledger"}


def test_settings_are_made_in_the_service_and_in_an_apps_main_only() -> None:
    makers = {
        name(path)
        for path in python_files(*PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "Settings"
    }
    elsewhere = {
        maker
        for maker in makers
        if not maker.startswith("service/") and not (maker.startswith("apps/") and maker.endswith("/main.py"))
    }
    assert makers != set()
    assert elsewhere == set()


def test_the_local_stack_takes_arguments_but_for_its_own_command() -> None:
    makers = {
        path.name for path in python_files("service/stack") if "ledger.settings.Settings" in imported_modules(path)
    }
    assert makers == {"__main__.py"}


def test_the_migrations_folder_does_not_hide_the_library_of_the_same_name() -> None:
    assert not list((ROOT / "alembic").rglob("__init__.py"))


def _is_below(module: str, packages: tuple[str, ...]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)
