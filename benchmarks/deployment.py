"""From what a command costs to what a deployment needs: the tables of docs/scaling.md.

`python -m benchmarks.deployment [RESULTS]` writes them anew: the figures from a results file of `make bench` or, where
none is named, from the table that the page holds; everything else is computed from that table, so that the page never
contradicts itself.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs" / "scaling.md"

RATES_PER_S: Final = (10_000, 100_000, 1_000_000)
BUSY_SHARE: Final = 0.6
"""Of a core, so that a peak and the loss of a machine are borne."""

REPLICAS: Final = 3
"""Copies of every topic. Each is counted as dear as the one that was measured, which is more than it costs."""

SUBSCRIBERS: Final = 2
"""Groups of apps that read all events, beside the projection workers."""

BROKER_CORES: Final = 8
BROKER_NETWORK_BYTES_PER_S: Final = 1.25e9 * 0.5
"""Half of 10 Gbit/s, in one direction."""

POSTGRES_CORES: Final = 16
POSTGRES_WAL_BYTES_PER_S: Final = 2e8
"""What one server writes into its log for long: an assumption, to be replaced by what your disks and standby take."""

PARTITION_CHOICES: Final = (12, 24, 48, 96, 192, 384, 768, 1536)
"""Numbers that many numbers of processes divide."""

PARTITIONS_PER_CONSUMER: Final = 2
SECONDS_PER_DAY: Final = 86_400
COMMANDS_KEPT_DAYS: Final = 7

FIGURES: Final = {
    "cpu_us_per_command_consumer": ("us", "the ledger consumer: one process, one core at most"),
    "cpu_us_per_command_projector": ("us", "the projection worker: one process, one core at most"),
    "cpu_us_per_command_kafka": ("us", "Kafka, one copy of each topic"),
    "cpu_us_per_command_postgres": ("us", "Postgres, record and read models"),
    "bytes_per_event_record_tables": ("bytes", "tables of the record"),
    "bytes_per_event_record_indexes": ("bytes", "and their indexes"),
    "bytes_per_event_read_models_tables": ("bytes", "tables of the read models"),
    "bytes_per_event_read_models_indexes": ("bytes", "and their indexes"),
    "bytes_per_event_wal": ("bytes", "Postgres's log (WAL)"),
    "bytes_per_event_kafka_commands": ("bytes", "a command in Kafka, one copy"),
    "bytes_per_event_kafka_events": ("bytes", "an event in Kafka, one copy"),
}
"""By their names in the results: unit, and what they are."""

Costs = Mapping[str, float]
"""The figures above, by name, for one command."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a rate of commands needs."""

    rate_per_s: int
    consumers: int
    projectors: int
    partitions: int
    """Of each ledger, where they are several."""

    brokers_by_cpu: int
    brokers_by_network: int
    postgres_by_cpu: int
    postgres_by_wal: int
    postgres_bytes_per_day: float
    kafka_bytes_per_day: float
    """Of events, all copies; they are kept."""

    kafka_bytes_of_commands: float
    """All copies of as many days as commands are kept."""

    @property
    def brokers(self) -> int:
        """At least as many as there are copies."""
        return max(REPLICAS, self.brokers_by_cpu, self.brokers_by_network)

    @property
    def ledgers(self) -> int:
        """Side by side: as many as primaries of Postgres. Standbys are not counted."""
        return max(self.postgres_by_cpu, self.postgres_by_wal)


def deployment(costs: Costs, rate_per_s: int) -> Deployment:
    """The arithmetic of docs/scaling.md."""

    def cores(name: str, times: int = 1) -> float:
        return rate_per_s * costs[f"cpu_us_per_command_{name}"] * times / 1e6 / BUSY_SHARE

    def size(name: str) -> float:
        return costs[f"bytes_per_event_{name}"]

    consumers = ceil(cores("consumer"))
    by_cpu = ceil(cores("postgres") / POSTGRES_CORES)
    by_wal = ceil(rate_per_s * size("wal") / POSTGRES_WAL_BYTES_PER_S)
    wanted = ceil(consumers / max(by_cpu, by_wal)) * PARTITIONS_PER_CONSUMER
    # Out of the brokers go the copies of both topics, the commands once, the events to workers and subscribers.
    out_bytes = (size("kafka_commands") + size("kafka_events")) * (REPLICAS - 1)
    out_bytes += size("kafka_commands") + size("kafka_events") * (1 + SUBSCRIBERS)
    stored = sum(
        size(name) for name in ("record_tables", "record_indexes", "read_models_tables", "read_models_indexes")
    )
    return Deployment(
        rate_per_s=rate_per_s,
        consumers=consumers,
        projectors=ceil(cores("projector")),
        partitions=next((choice for choice in PARTITION_CHOICES if choice >= wanted), wanted),
        brokers_by_cpu=ceil(cores("kafka", REPLICAS) / BROKER_CORES),
        brokers_by_network=ceil(rate_per_s * out_bytes / BROKER_NETWORK_BYTES_PER_S),
        postgres_by_cpu=by_cpu,
        postgres_by_wal=by_wal,
        postgres_bytes_per_day=rate_per_s * stored * SECONDS_PER_DAY,
        kafka_bytes_per_day=rate_per_s * size("kafka_events") * REPLICAS * SECONDS_PER_DAY,
        kafka_bytes_of_commands=rate_per_s * size("kafka_commands") * REPLICAS * SECONDS_PER_DAY * COMMANDS_KEPT_DAYS,
    )


def measured_table(costs: Costs) -> str:
    """The figures that everything is computed from."""
    rows = [(f"`{name}`", f"{costs[name]:,.1f} {unit}", what) for name, (unit, what) in FIGURES.items()]
    return _table(("figure", "for one command", "of"), rows)


def computed_tables(costs: Costs) -> str:
    """What follows from them."""
    made = [deployment(costs, rate) for rate in RATES_PER_S]
    all_us = sum(costs[name] for name in costs if name.startswith("cpu_us"))
    rows = [
        ("ledger consumers (processes, a core each)", [f"{one.consumers:,}" for one in made]),
        ("projection workers (processes, a core each)", [f"{one.projectors:,}" for one in made]),
        (f"Kafka brokers of {BROKER_CORES} cores", [f"{one.brokers:,}" for one in made]),
        ("... by their CPU alone", [f"{one.brokers_by_cpu:,}" for one in made]),
        ("... by their network alone", [f"{one.brokers_by_network:,}" for one in made]),
        (f"Postgres servers of {POSTGRES_CORES} cores: as many ledgers", [f"{one.ledgers:,}" for one in made]),
        ("... by their CPU alone", [f"{one.postgres_by_cpu:,}" for one in made]),
        ("... by their log alone", [f"{one.postgres_by_wal:,}" for one in made]),
        ("N of each ledger", [f"{one.partitions:,}" for one in made]),
        ("Postgres grows by, a day", [_bytes(one.postgres_bytes_per_day) for one in made]),
        ("`ledger.events` grows by, a day, all copies", [_bytes(one.kafka_bytes_per_day) for one in made]),
        (f"{COMMANDS_KEPT_DAYS} days of commands, all copies", [_bytes(one.kafka_bytes_of_commands) for one in made]),
    ]
    head = ("", *(f"{rate:,}/s" for rate in RATES_PER_S))
    told = (
        f"All processes together: {all_us:.1f} us of CPU for one command, so {1e6 / all_us:,.0f} commands/s to a core\n"
        f"that does nothing else. One consumer: {1e6 / costs['cpu_us_per_command_consumer']:,.0f}/s at most, "
        f"{BUSY_SHARE * 1e6 / costs['cpu_us_per_command_consumer']:,.0f}/s as planned with."
    )
    return f"{told}\n\n{_table(head, [(name, *values) for name, values in rows])}"


def read_costs(page: str) -> dict[str, float]:
    """The figures that the page holds. Raises ValueError: one is missing."""
    found = {
        name: float(value.replace(",", ""))
        for name, value in re.findall(r"^\| `(\w+)` \| ([\d.,]+) ", page, re.MULTILINE)
    }
    missing = FIGURES.keys() - found.keys()
    if missing:
        raise ValueError(f"the page does not tell {', '.join(sorted(missing))}")
    return {name: found[name] for name in FIGURES}


def written(page: str, costs: Costs) -> str:
    """The page with both of its parts made anew."""
    rounded = read_costs(measured_table(costs))
    for part, text in (("measured", measured_table(rounded)), ("computed", computed_tables(rounded))):
        begin, end = f"<!-- {part}: written by benchmarks/deployment.py -->", f"<!-- end of {part} -->"
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = f"{before}{begin}\n\n{text}\n\n{end}{after}"
    return page


def main(arguments: Sequence[str]) -> int:
    """Write the page anew."""
    page = PAGE.read_text()
    costs = read_costs(page)
    if arguments:
        results = json.loads(Path(arguments[0]).read_text())["results"]
        measured = {result["name"]: float(result["median"]) for result in results}
        missing = FIGURES.keys() - measured.keys()
        if missing:
            print(f"{arguments[0]} does not hold {', '.join(sorted(missing))}: these stay as they are", file=sys.stderr)
        costs = {name: measured.get(name, value) for name, value in costs.items()}
    PAGE.write_text(written(page, costs))
    return 0


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Numbers are set flush right.
    numeric = [any(character.isdigit() for character in cell) for cell in rows[0]]
    lines = [f"| {' | '.join(head)} |", "".join("|--:" if right else "|---" for right in numeric) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _bytes(count: float) -> str:
    for unit in ("GB", "TB", "PB"):
        count /= 1e9 if unit == "GB" else 1e3
        if count < 1_000 or unit == "PB":
            return f"{count:,.3g} {unit}"
    raise AssertionError("unreachable")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
