"""The pages agree with the code and with each other: links, sections that errors name, settings, limits, commands."""

import ast
import importlib
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from ledger.domain.event import RecordedEvent
from ledger.domain.rejection import Reason
from ledger.event_store.interventions import SET_ASIDE
from ledger.messages.command_codec import CommandMessage, UnreadableReason
from ledger.operations import BaseLedgerOperations
from ledger.settings import Settings
from service.cli.app import app as ledger_command
from service.cli.output import ExitCode
from service.processes.lifecycle import FORCED_CODE
from tests.docs_pages import PAGES, PYTHON_BLOCKS, ROOT, commands, examples, part_of, text_of

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
NOT_OURS = {"LEDGER_STACK_IMAGES"}
PACKAGES = ("ledger", "consumers", "producers", "projections", "service", "apps", "alembic")


@cache
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def sections(page: Path) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE))


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, without its head."""
    below = text_of(page).split(f"## {heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert rows, f"{page} has no table below {heading!r}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[0].splitlines()[2:]]


def links() -> list[tuple[Path, str]]:
    return [(page, target) for page in PAGES for target in LINK.findall(re.sub(r"`[^`\n]*`", "", page.read_text()))]


@pytest.mark.parametrize(
    ("page", "target"), links(), ids=[f"{page.name}-{target.replace('/', '.')}" for page, target in links()]
)
def test_links_lead_somewhere(page: Path, target: str) -> None:
    if target.startswith(("http://", "https://")):
        return
    name, _, anchor = target.partition("#")
    linked = (page.parent / name).resolve() if name else page
    assert linked.exists()
    assert not anchor or anchor in anchors(linked)


def test_the_readme_leads_to_every_page() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve() for page, target in links() if page.name == "README.md"
    }
    assert set(PAGES[1:]) <= linked


def texts_in_python() -> list[tuple[str, str]]:
    """Every text of the code that names a page, with where it stands; what is put in at run time is left out."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "" for part in parts
            )
            if "docs/" in text:
                found.append((f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}", text))
    return found


@pytest.mark.parametrize(("place", "text"), texts_in_python(), ids=[place for place, _ in texts_in_python()])
def test_pages_and_sections_that_the_code_names_are_there(place: str, text: str) -> None:
    for name, section in re.findall(r"(docs/[\w/-]+\.md)(?:,\s+'([^']+)')?", text):
        page = ROOT / name
        assert page.exists()
        assert not section or section in sections(page)


def test_errors_name_sections() -> None:
    """Otherwise the test above could find nothing and be content."""
    named = {section for _, text in texts_in_python() for section in re.findall(r"operating\.md,\s+'([^']+)'", text)}
    assert {"A topic that was recreated", "A restored database", "Offsets out of range"} <= named


def test_the_settings_table_lists_every_setting_with_its_default() -> None:
    listed = {name.strip("`"): default.strip("`") for name, default, _ in table("docs/reference.md", "Settings")}
    declared = {}
    for name, field in Settings.model_fields.items():
        empty = field.default is None or field.default == ()
        declared[f"LEDGER_{name.upper()}"] = "" if empty else str(field.default)
    assert listed == declared


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    named = set(re.findall(r"\bLEDGER_[A-Z_]+\b", page.read_text()))
    assert named <= {f"LEDGER_{name.upper()}" for name in Settings.model_fields} | NOT_OURS


@pytest.mark.parametrize("row", table("docs/reference.md", "Limits"), ids=lambda row: row[0])
def test_limits_are_those_of_the_code(row: list[str]) -> None:
    _, value, name = row
    module, _, constant = name.strip("`").rpartition(".")
    number = re.match(r"[\d,]+", value)
    assert number
    assert getattr(importlib.import_module(module), constant) == int(number[0].replace(",", ""))


def test_exit_codes_are_listed() -> None:
    listed = [int(code) for code, _ in table("docs/reference.md", "Exit codes of the command line")]
    assert listed == sorted([*map(int, ExitCode), FORCED_CODE])


def test_rejections_are_listed_in_their_order_and_with_their_states() -> None:
    rows = table("docs/concepts.md", "Rejections, in the order in which they are checked")
    assert [(name.strip("`"), state) for name, state, _ in rows] == [
        (str(reason), str(reason.failed_in)) for reason in Reason
    ]


def test_reasons_of_the_quarantine_are_listed() -> None:
    [line] = [line for line in text_of("docs/reference.md").splitlines() if line.startswith("`NULL_VALUE`")]
    assert re.findall(r"`(\w+)`", line) == [*(str(reason) for reason in UnreadableReason), SET_ASIDE]


def test_base_operations_are_listed_with_their_amounts() -> None:
    listed = re.findall(r"`([A-Z_]+)` ([+-]\d+)", text_of("docs/reference.md").replace("\n", " "))
    assert {name: int(amount) for name, amount in listed} == {
        name: rule.default_amount for name, rule in BaseLedgerOperations.operations.items()
    }


def test_fields_of_commands_are_listed_with_what_may_be_left_out() -> None:
    listed = {name.strip("`"): "optional" in type_ for name, type_, _ in table("docs/reference.md", "Command")}
    assert listed == {field.name: not field.required for field in msgspec.structs.fields(CommandMessage)}


def test_fields_of_events_are_listed_with_those_that_are_not_always_there() -> None:
    first = text_of("docs/reference.md").split("## Event\n")[1].split(" Readers ignore")[0]
    always, _, sometimes = first.replace("\n", " ").partition("where there is one")
    names = [re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", part)) for part in (always, sometimes)]
    fields = msgspec.structs.fields(RecordedEvent)
    assert names == [[field.name for field in fields if field.required is wanted] for wanted in (True, False)]


def in_code(page: Path) -> str:
    """Only what is set as code, a piece a line."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(), re.DOTALL)
    return "\n".join(blocks + re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_and_make_targets_that_a_page_names_are_there(page: Path) -> None:
    files = re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|sql|sh|md|csv))`", page.read_text())
    assert [name for name in files if not (ROOT / name).exists()] == []
    targets = re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", in_code(page))) <= set(targets)


def ledger_commands() -> list[tuple[str, str]]:
    """Every call of `ledger` on a page: in console blocks, and inside a line when it is set as code."""
    found = [(page.name, line) for page in PAGES for line, _ in commands(page) if line.startswith("ledger ")]
    for page in PAGES:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        found += [(page.name, " ".join(call.split())) for call in re.findall(r"`(ledger [a-z][^`]*)`", prose)]
    return sorted(set(found))


@pytest.mark.parametrize(("page", "line"), ledger_commands(), ids=[f"{p}: {line}" for p, line in ledger_commands()])
def test_commands_that_a_page_names_exist_with_their_options(page: str, line: str) -> None:
    command: Any = typer.main.get_command(ledger_command)
    words = shlex.split(line)[1:]
    while words and not words[0].startswith("-") and hasattr(command, "commands"):
        for alternative in words[0].split("|"):
            assert alternative in command.commands, f"there is no `ledger ... {alternative}`"
        command = command.commands[words.pop(0).split("|")[0]]
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    used = {word.partition("=")[0] for word in words if word.startswith("--")}
    assert used <= options | {"--help"}


@pytest.mark.parametrize(
    ("page", "name", "part", "code"),
    PYTHON_BLOCKS,
    ids=[f"{b[0]}-{Path(b[1]).name}-{b[2]}" for b in PYTHON_BLOCKS],
)
def test_the_code_shown_is_the_file_or_the_named_part_of_it(page: str, name: str, part: str, code: str) -> None:
    assert code == part_of(ROOT / name, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_says_which_file_it_is(page: Path) -> None:
    assert page.read_text().count("```python\n") == sum(block[0] == page.name for block in PYTHON_BLOCKS)


def test_every_example_is_shown_on_a_page() -> None:
    assert set(examples()) == {name for _, name, _, _ in PYTHON_BLOCKS}


@pytest.mark.filterwarnings("ignore")
async def test_the_unit_tests_that_the_guide_shows_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    checkout = importlib.import_module("docs.examples.bakery.test_checkout")
    checkout.test_the_operations_are_declared_right()
    async for ledger in checkout.ledger.__wrapped__():
        await checkout.test_an_order_is_paid_once(ledger)
