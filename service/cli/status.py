"""`ledger status` and `ledger partitions`."""

import typer
from rich.console import Console

from service.cli.output import ExitCode, printable, table
from service.cli.session import JsonOption, Session, run
from service.status import Status, read_status


def status(as_json: JsonOption = False) -> None:
    """How the ledger is, at a glance: consumers, read models, topics, quarantine, and what to look at.

    Exit code 1 when something needs an operator, 3 when Postgres is away.
    """
    run(as_json, _status)


def partitions(as_json: JsonOption = False) -> None:
    """Each partition: head, holder, epoch, what waits, and why it stands still if it does."""
    run(as_json, _partitions)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status)
    app.command("partitions")(partitions)


async def _status(session: Session) -> ExitCode:
    found = await read_status(session.wiring)
    session.output.result(_document(found), lambda console: _print(console, found))
    return ExitCode.NO if found.problems else ExitCode.OK


async def _partitions(session: Session) -> ExitCode:
    found = await read_status(session.wiring)
    session.output.result(_partition_documents(found), lambda console: _print_partitions(console, found))
    return (
        ExitCode.NO
        if any(head.halted_because or head.halted_apps for head in found.overview.partitions)
        else ExitCode.OK
    )


def _document(found: Status) -> dict[str, object]:
    overview = found.overview
    return {
        "ok": not found.problems,
        "problems": found.problems,
        "ledger_id": overview.identity.ledger_id,
        "events": sum(head.sequence for head in overview.partitions),
        "commands_waiting": None if found.lag is None else sum(found.lag.values()),
        "events_unpublished": sum(head.sequence - head.published_sequence for head in overview.partitions),
        "partitions": _partition_documents(found),
        "projections": [
            {
                "read_model": feed.read_model,
                "version": feed.version,
                "partition": feed.partition,
                "holder": feed.holder,
                "sequence": feed.sequence,
                "behind": feed.behind,
                "behind_s": feed.behind_s,
                "halted_because": feed.halted_because,
            }
            for feed in found.health.projection_partitions
        ],
        "topics": found.topics
        and {
            "right": found.topics.right,
            "missing": found.topics.missing,
            "wrong_size": [
                {"topic": wrong.name, "partitions": wrong.found, "wanted": wrong.wanted}
                for wrong in found.topics.wrong_size
            ],
            "unregistered": found.topics.unregistered,
        },
        "quarantine": [
            {"app": one.app, "reason": one.reason, "status": one.status, "count": one.count}
            for one in overview.quarantine
        ],
        "last_intervention": next(
            (
                {"number": last.number, "made_at": last.made_at, "kind": last.kind, "subject": last.subject}
                for last in found.interventions
            ),
            None,
        ),
    }


def _partition_documents(found: Status) -> list[dict[str, object]]:
    return [
        {
            "partition": head.partition,
            "sequence": head.sequence,
            "published_sequence": head.published_sequence,
            "epoch": head.epoch,
            "holder": head.holder,
            "claimed_at": head.claimed_at,
            "last_event_at": head.occurred_at,
            "consumed": head.consumed,
            "commands_waiting": None if found.lag is None else found.lag[head.partition],
            "trying": head.trying,
            "trying_claims": head.trying_claims,
            "halted_because": head.halted_because,
            "halted_record": head.halted_record,
            "halted_apps": head.halted_apps,
        }
        for head in found.overview.partitions
    ]


def _print(console: Console, found: Status) -> None:
    overview = found.overview
    heads = overview.partitions
    holders = sorted({head.holder for head in heads if head.holder})
    lag = "not known" if found.lag is None else f"{sum(found.lag.values()):,}"
    console.print(
        table(
            ("ledger", str(overview.identity.ledger_id)),
            [
                ("events", f"{sum(head.sequence for head in heads):,} on {len(heads)} partitions"),
                ("held by", ", ".join(holders) or "nobody"),
                ("commands that wait", lag),
                ("events not yet published", f"{sum(head.sequence - head.published_sequence for head in heads):,}"),
            ],
        )
    )
    feeds: dict[tuple[str, int], list[int]] = {}
    for feed in found.health.projection_partitions:
        feeds.setdefault((feed.read_model, feed.version), []).append(feed.behind)
    console.print(
        table(
            ("read model", "version", "events behind"),
            [(name, version, sum(behind)) for (name, version), behind in sorted(feeds.items())],
        )
    )
    if overview.quarantine:
        console.print(
            table(
                ("quarantine of", "reason", "status", "messages"),
                [(one.app, one.reason, one.status, one.count) for one in overview.quarantine],
            )
        )
    for last in found.interventions:
        console.print(
            printable(
                f"last intervention: number {last.number}, {last.made_at:%Y-%m-%d %H:%M:%S} UTC, {last.kind} of "
                f"{last.subject} by {last.operator}; see `ledger recover list`"
            )
        )
    for problem in found.problems:
        console.print(printable(f"LOOK: {problem}"))
    if not found.problems:
        console.print("all is well")


def _print_partitions(console: Console, found: Status) -> None:
    columns = ("partition", "head", "published", "epoch", "holder", "claimed (UTC)", "commands waiting", "halted")
    rows = [
        (
            head.partition,
            head.sequence,
            head.published_sequence,
            head.epoch,
            head.holder,
            head.claimed_at,
            None if found.lag is None else found.lag[head.partition],
            "; ".join(filter(None, [head.halted_because, *head.halted_apps.values()])),
        )
        for head in found.overview.partitions
    ]
    console.print(table(columns, rows))
