"""The commands that are measured with: the same ones for the ledger and for the baselines."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, Literal

from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command
from ledger.messages.command_codec import encode_command
from ledger.messages.command_ids import new_command_id
from ledger.messages.partitioning import partition_of

Distribution = Literal["uniform", "zipf"]

APP: Final = "example-app"
OPERATIONS: Final = "apps.example_app.operations:ExampleAppOperations"
"""Named to every process, so that a checkout that is not installed can be measured too."""

ZIPF_EXPONENT: Final = 1.0
"""The n-th busiest owner sends 1/n of what the busiest sends."""

_ADD: Final = ("CREDIT_ADD", 10)
_SPEND: Final = ("CREDIT_SPEND", -1)


def owner_id(number: int) -> str:
    """An owner as apps name them: 16 characters."""
    return f"owner-{number:010d}"


def make_commands(count: int, owners: int, distribution: Distribution, seed: int) -> list[Command]:
    """Commands that are all accepted: additions and spendings, half and half, an addition where there is nothing."""
    chance = random.Random(seed)
    balances = [0] * owners
    issued_at = datetime.now(UTC)
    commands = []
    for number in _owners(count, owners, distribution, chance):
        operation, amount = _SPEND if balances[number] > 0 and chance.random() < 0.5 else _ADD
        balances[number] += amount
        command_id = new_command_id()
        nonce = f"order-{command_id.hex[16:]}"
        commands.append(Command(APP, command_id, operation, owner_id(number), nonce, issued_at, amount))
    return commands


def encoded(commands: Iterable[Command], partitions: int) -> dict[int, list[OutgoingRecord]]:
    """By partition, as an app's producer would send them."""
    records: dict[int, list[OutgoingRecord]] = {partition: [] for partition in range(partitions)}
    for command in commands:
        key = command.owner_id.encode()
        records[partition_of(key, partitions)].append(OutgoingRecord(key, encode_command(command)))
    return records


def _owners(count: int, owners: int, distribution: Distribution, chance: random.Random) -> list[int]:
    if distribution == "uniform":
        return chance.choices(range(owners), k=count)
    weights = accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, owners + 1))
    return chance.choices(range(owners), cum_weights=list(weights), k=count)
