"""`ledger watch`: events as they are published."""

import asyncio
from typing import Annotated, Final

import typer
from rich.text import Text

from ledger.broker.protocol import BrokerUnavailableError, OffsetOutOfRangeError, TopicPartition
from ledger.domain.event import RecordedEvent
from ledger.messages.event_codec import UnreadableEventError, decode_event
from service.cli.output import ExitCode, printable
from service.cli.publishing import event_document
from service.cli.session import JsonOption, Session, run

POLL_RECORDS_MAX: Final = 1_000
POLL_WAIT_S: Final = 0.5
BACK_OFF_S: Final = 1.0


def watch(
    owner: Annotated[str | None, typer.Option(help="Events of this owner only.")] = None,
    app: Annotated[str | None, typer.Option(help="Events of this app's commands only.")] = None,
    from_start: Annotated[bool, typer.Option("--from-start", help="Begin with the first event of all.")] = False,
    count: Annotated[int | None, typer.Option(min=1, help="End after so many. Not given: at Ctrl-C.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show events as they are published, until Ctrl-C. With --json one event a line."""
    run(as_json, lambda session: _watch(session, owner, app, from_start, count))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("watch")(watch)


async def _watch(session: Session, owner: str | None, app: str | None, from_start: bool, count: int | None) -> ExitCode:
    topic = session.topics.events
    reader = session.wiring.reader()
    await reader.start()
    try:
        partitions = (await reader.partition_counts()).get(topic, 0)
        bounds = await reader.bounds([TopicPartition(topic, partition) for partition in range(partitions)])
        positions = {one: bound.start if from_start else bound.end for one, bound in bounds.items()}
        reader.assign(positions)
        session.output.note(f"watching {topic} ({partitions} partitions); Ctrl-C ends it")
        shown = 0
        while True:
            try:
                records = await reader.poll(POLL_RECORDS_MAX, POLL_WAIT_S)
            except OffsetOutOfRangeError as error:
                positions[error.topic_partition] = (await reader.bounds([error.topic_partition]))[
                    error.topic_partition
                ].start
                reader.assign(positions)
                continue
            except BrokerUnavailableError as error:
                session.output.note(f"Kafka is away, trying again: {error}")
                await asyncio.sleep(BACK_OFF_S)
                continue
            for record in records:
                positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
                try:
                    event = decode_event(record.value)
                except UnreadableEventError as error:
                    session.output.note(f"{record.topic}:{record.partition}:{record.offset}: {error}")
                    continue
                if owner not in (None, event.owner_id) or app not in (None, event.app):
                    continue
                _show(session, event)
                shown += 1
                if count is not None and shown >= count:
                    return ExitCode.OK
    finally:
        await reader.stop()


def _show(session: Session, event: RecordedEvent) -> None:
    if session.output.as_json:
        session.output.json_line(event_document(event))
        return
    became = f"balance {event.balance_after:,}" if event.accepted else f"REFUSED {event.reason} ({event.detail})"
    session.output.console.print(
        Text.assemble(
            (f"{event.occurred_at:%H:%M:%S.%f}"[:-3], "dim"),
            f" {event.position!s:>10} {event.app} {event.operation:<18} {event.amount:>+12,}  ",
            (printable(became), "" if event.accepted else "red"),
            f"  {printable(event.owner_id)}",
        )
    )
