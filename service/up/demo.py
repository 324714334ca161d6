"""The example app's commands that `ledger up` publishes: a look at the whole path, from a command to a balance.

Command ids follow from what is done, so that a second start does nothing twice and gets the same answers.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ledger.domain.event import RecordedEvent
from ledger.messages.command_ids import derived_command_id
from producers import CommandRejected, LedgerClient

DEMO_APP: Final = "example-app"
DEMO_WAIT_S: Final = 30.0
"""How long one command may take: the first one waits until the consumer has its partitions."""


@dataclass(frozen=True, slots=True)
class DemoCommand:
    """One command, and what it stands for."""

    owner_id: str
    operation: str
    nonce: str
    amount: int | None
    meaning: str


@dataclass(frozen=True, slots=True)
class DemoOutcome:
    """What became of a command."""

    command: DemoCommand
    event: RecordedEvent
    replayed: bool
    """It was decided at an earlier start; nothing happened again."""


def demo_commands(now: datetime) -> list[DemoCommand]:
    """The commands of this day: the daily reward is the only one that a later day adds."""
    today = f"{now.astimezone(UTC):%Y-%m-%d}"
    ada, grace, linus = "ada", "grace", "linus"
    return [
        DemoCommand(ada, "SIGNUP_CREDIT", f"signup_{ada}", None, "Ada signs up"),
        DemoCommand(grace, "SIGNUP_CREDIT", f"signup_{grace}", None, "Grace signs up"),
        DemoCommand(linus, "SIGNUP_CREDIT", f"signup_{linus}", None, "Linus signs up"),
        DemoCommand(ada, "DAILY_REWARD", f"daily_{ada}_{today}", None, "Ada's daily reward"),
        DemoCommand(ada, "CREDIT_ADD", "demo-purchase", 20, "Ada buys 20 credits"),
        DemoCommand(ada, "CONTENT_CREATION", "demo-article", None, "Ada writes an article"),
        DemoCommand(grace, "CONTENT_ACCESS", "demo-article", None, "Grace reads it"),
        DemoCommand(grace, "CREDIT_SPEND", "demo-tip", -2, "Grace tips Ada 2 credits"),
        DemoCommand(ada, "CREDIT_ADD", "demo-tip", 2, "Ada gets the tip"),
        DemoCommand(linus, "CONTENT_CREATION", "demo-article", None, "Linus has too little for an article"),
        DemoCommand(grace, "SIGNUP_CREDIT", f"signup_{grace}", None, "Grace signs up again"),
    ]


async def publish_demo(client: LedgerClient) -> list[DemoOutcome]:
    """Publish the commands one after another, each as soon as the one before it is decided.

    Raises:
        producers.LedgerError: Kafka is away, or no consumer answers.
    """
    outcomes = []
    for index, command in enumerate(demo_commands(datetime.now(UTC))):
        command_id = derived_command_id("ledger up", str(index), command.owner_id, command.nonce)
        try:
            outcome = await client.submit(
                command.operation,
                command.owner_id,
                command.nonce,
                command.amount,
                command_id=command_id,
                wait_s=DEMO_WAIT_S,
            )
        except CommandRejected as rejected:
            outcomes.append(DemoOutcome(command, rejected.event, rejected.replayed))
        else:
            outcomes.append(DemoOutcome(command, outcome.event, outcome.replayed))
    return outcomes
