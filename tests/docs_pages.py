"""The pages of the documentation, and what tests look at on them."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r"\[(docs/examples/[^\]]+)\]\([^)]+\)(?:, `(\w+)`)?:\n\n```python\n(.*?)```", re.DOTALL)

PYTHON_BLOCKS = [(page.name, *block) for page in PAGES for block in _BLOCK.findall(page.read_text())]
"""Page, file, part (empty for the whole file), code."""


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def examples() -> list[str]:
    """Every file of docs/examples, by its name from the root."""
    return sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/examples").rglob("*.py"))


def part_of(path: Path, part: str) -> str:
    """The text of a function or class of the file, or of the whole file."""
    text = path.read_text()
    if not part:
        return text
    [node] = [node for node in ast.parse(text).body if getattr(node, "name", None) == part]
    assert isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "".join(text.splitlines(keepends=True)[first - 1 : node.end_lineno])


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """What the page's console blocks tell to type, and what each answer contains by the comment behind it."""
    typed: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.startswith("$ "):
                continue  # what is answered
            command, _, claim = line.removeprefix("$ ").partition("    # ")
            typed.append((command.strip(), [part.strip() for part in claim.split(", ") if part]))
    return typed
