"""`ledger apps`."""

from collections.abc import Iterable

import typer
from rich.console import Console

from ledger.domain.rules import AppRules, OperationRule
from service.cli.output import ExitCode, table
from service.cli.session import JsonOption, Session, run


def apps(as_json: JsonOption = False) -> None:
    """The registered apps: their operations, which of them they may use, their credit types, their topics.

    Apps are found by the entry points `ledger.apps` of installed packages and by LEDGER_APPS=module:Class,...
    """
    run(as_json, _apps)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("apps")(apps)


async def _apps(session: Session) -> ExitCode:
    registry = session.registry
    session.output.result(
        [_document(rules, session.topics.commands(name)) for name, rules in registry.items()],
        lambda console: _print(console, registry.values()) if registry else console.print(_NONE),
    )
    return ExitCode.OK


_NONE = (
    "no app is registered: name a class of operations in LEDGER_APPS=module:Class, or install a package with an entry "
    "point `ledger.apps`"
)


def _document(rules: AppRules, topic: str) -> dict[str, object]:
    return {
        "app": rules.app,
        "topic": topic,
        "credit_types": sorted(rules.credit_types),
        "operations": [
            {
                "operation": name,
                "allowed": name in rules.allowed,
                "default_amount": rule.default_amount,
                "sign": rule.sign.value,
                "caller_sets_amount": rule.caller_sets_amount,
                "largest_amount": rule.largest_amount,
            }
            for name, rule in rules.operations.items()
        ],
    }


def _print(console: Console, all_rules: Iterable[AppRules]) -> None:
    for rules in all_rules:
        console.print(
            table(
                ("operation", "amount", "the app may use it"),
                [(name, _amount(rule), name in rules.allowed) for name, rule in rules.operations.items()],
                title=f"{rules.app} (credit types: {', '.join(sorted(rules.credit_types))})",
            )
        )


def _amount(rule: OperationRule) -> str:
    default = f"{rule.default_amount:+,}" if rule.default_amount else "0"
    if not rule.caller_sets_amount:
        return default
    return f"{default}, or any {rule.sign.value} up to {rule.largest_amount:,}"
