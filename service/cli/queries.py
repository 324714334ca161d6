"""`ledger balance` and `ledger entries`: what the read models say."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.console import Console

from ledger.domain.position import Position
from projections.balances.queries import OWNERS_IN_BATCH_MAX, BalanceReader, OwnerBalances
from projections.read_pool import ReadPool
from projections.read_your_writes import AnsweredPositions, StaleReadError
from projections.statements.queries import PAGE_LINES_MAX, StatementLine, StatementPage, StatementReader
from service.cli.output import CliError, ExitCode, table
from service.cli.session import JsonOption, Session, run

OwnerArgument = Annotated[str, typer.Argument(help="Whose credits.", show_default=False)]
PositionOption = Annotated[
    str | None,
    typer.Option("--min-position", help="Wait until the answer contains this event, PARTITION:SEQUENCE."),
]


def balance(
    owner_ids: Annotated[
        list[str],
        typer.Argument(metavar="OWNER...", help=f"Whose credits, at most {OWNERS_IN_BATCH_MAX}.", show_default=False),
    ],
    min_position: PositionOption = None,
    as_json: JsonOption = False,
) -> None:
    """What owners have, of every credit type. An unknown owner has 0. Several owners are read at one moment."""
    run(as_json, lambda session: _balance(session, owner_ids, min_position))


def entries(
    owner_id: OwnerArgument,
    limit: Annotated[int, typer.Option(min=1, max=PAGE_LINES_MAX, help="How many, newest first.")] = 20,
    before: Annotated[str | None, typer.Option(help="Go on behind this position, as the page before named it.")] = None,
    rejections: Annotated[bool, typer.Option("--rejections", help="Show refused commands too.")] = False,
    credit_type: Annotated[str | None, typer.Option(help="Of this credit type only.")] = None,
    min_position: PositionOption = None,
    as_json: JsonOption = False,
) -> None:
    """An owner's statement, newest first."""
    run(
        as_json,
        lambda session: _entries(session, owner_id, limit, before, rejections, credit_type, min_position),
    )


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("balance")(balance)
    app.command("entries")(entries)


async def _balance(session: Session, owner_ids: list[str], min_position: str | None) -> ExitCode:
    if len(owner_ids) > OWNERS_IN_BATCH_MAX:
        raise CliError(ExitCode.USAGE, f"{len(owner_ids)} owners are too many: at most {OWNERS_IN_BATCH_MAX} at a time")
    async with _reading(session) as (pool, wait_s):
        found = await BalanceReader(pool, AnsweredPositions(), wait_s).of_owners(owner_ids, _positions(min_position))
    of_owners = [found[owner_id] for owner_id in owner_ids]
    documents = [_balance_document(one) for one in of_owners]
    session.output.result(
        documents[0] if len(documents) == 1 else documents, lambda console: _print_balances(console, of_owners)
    )
    return ExitCode.OK


async def _entries(
    session: Session,
    owner_id: str,
    limit: int,
    before: str | None,
    rejections: bool,
    credit_type: str | None,
    min_position: str | None,
) -> ExitCode:
    async with _reading(session) as (pool, wait_s):
        page = await StatementReader(pool, AnsweredPositions(), wait_s).page(
            owner_id,
            limit=limit,
            before=next(iter(_positions(before)), None),
            with_rejections=rejections,
            credit_type=credit_type,
            min_positions=_positions(min_position),
        )
    session.output.result(
        {
            "owner_id": owner_id,
            "position": str(page.position),
            "entries": [_line_document(line) for line in page.lines],
            "next_before": None if page.next_before is None else str(page.next_before),
        },
        lambda console: _print_page(console, page),
    )
    return ExitCode.OK


@asynccontextmanager
async def _reading(session: Session) -> AsyncIterator[tuple[ReadPool, float]]:
    pool = session.wiring.read_pool()
    await pool.start()
    try:
        yield pool, session.settings.read_wait_s
    except StaleReadError as error:
        raise CliError(ExitCode.UNAVAILABLE, str(error), "see `ledger status`: is a projector running?") from error
    finally:
        await pool.stop()


def _positions(text: str | None) -> list[Position]:
    if text is None:
        return []
    try:
        return [Position.parse(text)]
    except ValueError as error:
        raise CliError(ExitCode.USAGE, str(error)) from error


def _balance_document(balances: OwnerBalances) -> dict[str, object]:
    return {
        "owner_id": balances.owner_id,
        "balance": balances.of().balance,
        "accounts": [
            {
                "credit_type": account.credit_type,
                "balance": account.balance,
                "entries": account.account_version,
                "last_updated": account.last_updated,
            }
            for account in balances.accounts
        ],
        "position": str(balances.position),
    }


def _print_balances(console: Console, of_owners: list[OwnerBalances]) -> None:
    rows = [
        (owner.owner_id, account.credit_type, account.balance, account.account_version, account.last_updated)
        for owner in of_owners
        for account in owner.accounts or (owner.of(),)
    ]
    columns = ("owner", "credit type", "balance", "entries", "last updated (UTC)")
    if len(of_owners) == 1:
        columns, rows = columns[1:], [row[1:] for row in rows]  # type: ignore[assignment,misc]
    console.print(table(columns, rows))


def _line_document(line: StatementLine) -> dict[str, object]:
    return {
        "id": line.position.entry_id,
        "position": str(line.position),
        "app": line.app,
        "operation": line.operation,
        "credit_type": line.credit_type,
        "amount": line.amount,
        "balance_after": line.balance_after,
        "nonce": line.nonce,
        "occurred_at": line.occurred_at,
        "command_id": line.command_id,
        "reason": line.reason,
        "detail": line.detail,
    }


def _print_page(console: Console, page: StatementPage) -> None:
    if not page.lines:
        console.print("no entries")
        return
    rows = [
        (
            str(line.position),
            line.occurred_at,
            line.app,
            line.operation,
            line.amount,
            line.balance_after,
            line.nonce,
            "" if line.reason is None else f"refused: {line.reason} ({line.detail})",
        )
        for line in page.lines
    ]
    columns = ("position", "when (UTC)", "app", "operation", "amount", "balance", "nonce", "")
    console.print(table(columns, rows))
    if page.next_before is not None:
        console.print(f"older ones: --before {page.next_before}")
