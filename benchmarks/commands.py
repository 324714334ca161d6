"""The commands that are measured with: the same ones for the ledger and for the baselines."""

import random
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final, Literal

from ledger.broker.protocol import OutgoingRecord
from ledger.domain.command import Command
from ledger.messages.command_codec import encode_command
from ledger.messages.command_ids import new_command_id
from ledger.messages.partitioning import partition_of

Distribution = Literal["uniform", "zipf", "hot"]
"""Evenly over the owners; the n-th busiest 1/n as often as the busiest; all of one owner."""

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


def some_owners(count: int, among: int, seed: int) -> Sequence[int]:
    """The numbers of `count` of `among` owners, drawn by chance, in no order; all of them in their order if there are
    no more."""
    return range(count) if count >= among else random.Random(seed).sample(range(among), count)


def make_commands(count: int, owners: int | Sequence[int], distribution: Distribution, seed: int) -> list[Command]:
    """Commands that are all accepted: additions and spendings, half and half, an addition where there is nothing.

    Args:
        count: how many.
        owners: their numbers, or how many there are.
        distribution: how busy each owner is.
        seed: the same one gives the same owners and amounts; command ids are always new.
    """
    numbers = range(owners) if isinstance(owners, int) else owners
    chance = random.Random(seed)
    balances = dict.fromkeys(numbers, 0)
    issued_at = datetime.now(UTC)
    commands = []
    for number in _drawn(count, numbers, distribution, chance):
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


def _drawn(count: int, owners: Sequence[int], distribution: Distribution, chance: random.Random) -> Sequence[int]:
    if distribution == "hot":
        return [owners[0]] * count
    if distribution == "uniform":
        return chance.choices(owners, k=count)
    weights = accumulate(1 / rank**ZIPF_EXPONENT for rank in range(1, len(owners) + 1))
    return chance.choices(owners, cum_weights=list(weights), k=count)
