"""`ledger topics sync|check`."""

from typing import Annotated, Any

import typer
from rich.console import Console

from ledger.broker.acls import (
    ANY_HOST,
    Acl,
    AclReport,
    AclsRefusedError,
    PrincipalsClashError,
    check_acls,
    sync_acls,
    wanted_acls,
)
from ledger.broker.protocol import TopicCreationError
from ledger.broker.topics_sync import SyncReport, check_topics, sync_topics
from ledger.event_store.identity import read_identity
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run

app = typer.Typer(no_args_is_help=True, help="The topics of the ledger on Kafka.")


Acls = Annotated[bool, typer.Option("--acls", help="Rights (ACLs) too: who may do what with the topics and groups.")]


@app.command("sync")
def sync(
    with_acls: Acls = False,
    prune: Annotated[bool, typer.Option("--prune", help="With --acls: remove rights that nobody should have.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing: show what would be.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Create the topics that are missing, and report on all. What exists is never changed.

    With --acls, give the ledger's principals and its apps' the rights that they need, and name what is superfluous.
    Exit code 1 when a topic has another number of partitions than the ledger (it is not consumed), when something is
    missing, or when somebody else may write.
    """
    if prune and not with_acls:
        raise typer.BadParameter("--prune removes rights: use it with --acls")
    run(as_json, lambda session: _report_topics(session, change=not dry_run, with_acls=with_acls, prune=prune))


@app.command("check")
def check(with_acls: Acls = False, as_json: JsonOption = False) -> None:
    """Report on the topics without creating any. Exit code 1 when one is missing or of the wrong size, and with --acls
    when a right is missing or somebody else may write."""
    run(as_json, lambda session: _report_topics(session, change=False, with_acls=with_acls))


async def _report_topics(session: Session, *, change: bool, with_acls: bool, prune: bool = False) -> ExitCode:
    async with session.connection() as connection:
        partitions = (await read_identity(connection)).partitions
    specs = session.wiring.wanted_topics(partitions)
    wanted = _wanted_acls(session) if with_acls else []
    async with session.wiring.admin() as admin:
        try:
            report = await (sync_topics if change else check_topics)(admin, specs, session.topics)
        except TopicCreationError as error:
            raise CliError(
                ExitCode.NO,
                f"Kafka refuses: {error}",
                "see LEDGER_REPLICATION_FACTOR, the number of brokers, and the rights of this client",
            ) from error
    rights = await _rights(session, wanted, change=change, prune=prune) if with_acls else None
    document = _topics_document(report) | ({} if rights is None else {"acls": _acls_document(rights)})
    session.output.result(document, lambda console: _print(console, report, rights))
    return ExitCode.OK if report.sound and (rights is None or rights.sound) else ExitCode.NO


def _wanted_acls(session: Session) -> list[Acl]:
    try:
        return wanted_acls(session.topics, session.registry, session.wiring.principals())
    except PrincipalsClashError as error:
        raise CliError(ExitCode.USAGE, str(error), "correct the settings that it names") from error


async def _rights(session: Session, wanted: list[Acl], *, change: bool, prune: bool) -> AclReport:
    try:
        async with session.wiring.acl_admin() as admin:
            if change:
                return await sync_acls(admin, wanted, session.topics, prune=prune)
            return await check_acls(admin, wanted, session.topics)
    except AclsRefusedError as error:
        raise CliError(ExitCode.NO, str(error), "see docs/operating.md, 'Who may write which topic'") from error


def _topics_document(report: SyncReport) -> dict[str, Any]:
    return {
        "created": report.created,
        "right": report.right,
        "missing": report.missing,
        "wrong_size": [
            {"topic": wrong.name, "partitions": wrong.found, "wanted": wrong.wanted} for wrong in report.wrong_size
        ],
        "unregistered": report.unregistered,
    }


def _acls_document(rights: AclReport) -> dict[str, Any]:
    return {
        name: [acl._asdict() for acl in acls]
        for name, acls in (
            ("added", rights.added),
            ("right", rights.right),
            ("missing", rights.missing),
            ("superfluous", rights.superfluous),
            ("removed", rights.removed),
            ("wider", rights.wider),
            ("open_doors", rights.open_doors),
        )
    }


def _print(console: Console, report: SyncReport, rights: AclReport | None) -> None:
    rows: list[tuple[str, str]] = []
    rows += [(name, "created") for name in report.created]
    rows += [(name, "as it should be") for name in report.right]
    rows += [(name, "missing: run `ledger topics sync`") for name in report.missing]
    rows += [
        (wrong.name, f"{wrong.found} partitions instead of {wrong.wanted}: not consumed; delete it and sync again")
        for wrong in report.wrong_size
    ]
    rows += [(name, "no such app is registered: not consumed (see `ledger apps`)") for name in report.unregistered]
    console.print(table(("topic", "state"), sorted(rows)))
    if rights is not None:
        _print_acls(console, rights)


def _print_acls(console: Console, rights: AclReport) -> None:
    doors = set(rights.open_doors)
    states = [(acl, "added") for acl in rights.added]
    states += [(acl, "as it should be") for acl in rights.right]
    states += [(acl, "missing: run `ledger topics sync --acls`") for acl in rights.missing]
    states += [(acl, "removed") for acl in rights.removed]
    states += [(acl, "superfluous: `ledger topics sync --acls --prune` removes it") for acl in rights.superfluous]
    states += [(acl, "reaches the ledger's names and others: see whether it must") for acl in rights.wider]
    rows = [
        (
            acl.principal,
            acl.operation,
            acl.resource,
            acl.name + ("*" if acl.pattern == "prefixed" else ""),
            ("AN OPEN DOOR; " if acl in doors else "")
            + state
            + ("" if acl.host == ANY_HOST else f" (from {acl.host})"),
        )
        for acl, state in sorted(states)
    ]
    console.print(table(("principal", "may", "on", "named", "state"), rows))
