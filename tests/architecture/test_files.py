"""How the project's files are: not too long, named for what they hold, locked without a trace of any machine."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.sources import PACKAGES, ROOT, name, python_files, tree

LINES_MAX = 400
TEST_LINES_MAX = 600
LONGER_FOR_A_REASON: dict[str, tuple[int, str]] = {
    "tests/contract/test_event_store.py": (840, "one contract: every promise of the protocol, in its order"),
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}


@pytest.mark.parametrize("path", python_files(), ids=name)
def test_a_file_is_read_in_one_go(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    limit, _reason = LONGER_FOR_A_REASON.get(name(path), (_usual_limit(name(path)), ""))
    assert lines <= limit, f"{lines} lines: split it by what it does, or list it here with the reason"


@pytest.mark.parametrize("path", LONGER_FOR_A_REASON)
def test_what_is_listed_as_long_is_long(path: str) -> None:
    assert len((ROOT / path).read_text().splitlines()) > _usual_limit(path), "it is short again: take it off the list"


@pytest.mark.parametrize("path", python_files(), ids=name)
def test_a_name_says_what_is_inside(path: Path) -> None:
    assert path.stem not in NAMES_THAT_SAY_NOTHING
    assert path.parent.name not in NAMES_THAT_SAY_NOTHING


@pytest.mark.parametrize("path", [path for path in python_files(*PACKAGES) if path.read_text().strip()], ids=name)
def test_a_module_begins_by_saying_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path))


@pytest.mark.parametrize("path", python_files(*PACKAGES), ids=name)
def test_what_is_public_is_documented(path: Path) -> None:
    undocumented = [
        node.name
        for node in tree(path).body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert undocumented == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("requirements*.lock")), ids=name)
def test_locks_hold_names_versions_and_hashes_only(path: Path) -> None:
    requirement = r"[a-z0-9][a-z0-9.-]*(\[[a-z0-9,-]+\])?==\S+( ; [^\\]+)? \\"
    lines = path.read_text().splitlines()
    assert lines
    strange = [
        line for line in lines if not re.fullmatch(rf"{requirement}|    --hash=sha256:[0-9a-f]{{64}}( \\)?", line)
    ]
    assert strange == []


def test_every_lock_of_a_package_names_the_same_version() -> None:
    versions: dict[str, set[str]] = {}
    for path in ROOT.glob("requirements*.lock"):
        for package, version in re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==(\S+)", path.read_text(), re.MULTILINE):
            versions.setdefault(package, set()).add(version)
    assert {package for package, found in versions.items() if len(found) > 1} == set()


def _usual_limit(path: str) -> int:
    return TEST_LINES_MAX if path.startswith("tests/") else LINES_MAX
