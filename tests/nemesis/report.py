"""What a fault run has to say, for people and for programs."""

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.nemesis.full_audit import FullAudit
from tests.nemesis.processes import End
from tests.nemesis.schedule import Fault, Kind, Minimums, Tally

SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Recovery:
    """One measured fault: seconds until each partition concerned was decided again (None: not while it was watched)."""

    kind: Kind
    limit_s: float
    took_s: tuple[float | None, ...]

    @property
    def kept(self) -> bool:
        """Whether it was within the limit."""
        return all(took is not None and took <= self.limit_s for took in self.took_s)

    @property
    def longest_s(self) -> float:
        """Of the slowest partition; infinite when it never went on."""
        return max((float("inf") if took is None else took for took in self.took_s), default=0.0)

    @property
    def words(self) -> str:
        """For a line."""
        return f"{self.longest_s:.1f} s ({len(self.took_s)} partitions, limit {self.limit_s:g} s)"


@dataclass(slots=True)
class FaultReport:
    """Filled as the run goes on."""

    seed: int
    minutes: float
    rate: float
    minimums: Minimums
    lasted_s: float = 0.0
    load_per_s: float = 0.0
    done: list[Fault] = field(default_factory=list)
    left_out: list[Fault] = field(default_factory=list)
    disk_left_out: str | None = None
    recoveries: list[Recovery] = field(default_factory=list)
    calm_s: list[float] = field(default_factory=list)
    """How long it took after each storm until every partition was decided."""
    rest_s: float = 0.0
    standstill_s: float = 0.0
    audit: FullAudit | None = None
    verify_says: str | None = "not asked"
    broke_off: str | None = None
    largest_mb: dict[str, float] = field(default_factory=dict)
    unexpected_ends: list[End] = field(default_factory=list)
    forced_stops: int = 0

    @property
    def objections(self) -> list[str]:
        """Why the run has failed; empty when all holds."""
        objections = [] if self.broke_off is None else [f"broken off: {self.broke_off}"]
        tally = Tally(self.done)
        if not tally.reaches(self.minimums):
            figures = f"{tally.total()}, {tally.of_consumers}, {tally.of_servers}, {tally[Kind.FREEZE]}"
            objections.append(f"too few faults: {figures} instead of {self.minimums}")
        objections += [
            f"{recovery.kind}: goes on after {recovery.words}" for recovery in self.recoveries if not recovery.kept
        ]
        if self.audit is not None:
            objections += [*self.audit.violations, *self.audit.clients.violations]
            if Kind.ROLLING_RESTART in tally and not self.audit.new_operation:
                objections.append("the new operation was never accepted after the rolling restart")
        if self.audit is None or self.verify_says is not None:
            objections.append(f"ledger verify: {self.verify_says}")
        return objections

    @property
    def document(self) -> dict[str, Any]:
        """As JSON."""
        tally = Tally(self.done)
        audit = self.audit
        return {
            "holds": not self.objections,
            "objections": self.objections,
            "seed": self.seed,
            "minutes": self.minutes,
            "lasted_s": round(self.lasted_s, 1),
            "rate_asked_per_s": self.rate,
            "load_held_per_s": round(self.load_per_s, 1),
            "faults": {
                "done": tally.total(),
                "of_consumers": tally.of_consumers,
                "of_kafka_or_postgres": tally.of_servers,
                "freezes": tally[Kind.FREEZE],
                "by_kind": {kind.value: tally[kind] for kind in Kind},
                "by_target": dict(Counter(fault.target for fault in self.done)),
                "left_out": len(self.left_out),
                "left_out_kinds": sorted({fault.kind.value for fault in self.left_out}),
            },
            "disk_fault_left_out": self.disk_left_out,
            "recovery_s": {
                kind.value: {
                    "limit": of_kind[0].limit_s,
                    "times": len(of_kind),
                    "median": round(statistics.median(each.longest_s for each in of_kind), 2),
                    "max": round(max(each.longest_s for each in of_kind), 2),
                }
                for kind, of_kind in self._recoveries_by_kind()
            },
            "longest_standstill_s": round(self.standstill_s, 2),
            "calm_after_storm_s": [round(calm, 1) for calm in self.calm_s],
            "rest_s": round(self.rest_s, 1),
            "clients": None if audit is None else client_figures(audit),
            "events": None if audit is None else dict(audit.outcomes),
            "verify": self.verify_says or "verified",
            "largest_rss_mb": {name: round(size) for name, size in sorted(self.largest_mb.items())},
            "unexpected_ends": [f"{end.name}: {end.code} after {end.lived_s:.1f} s" for end in self.unexpected_ends],
            "forced_stops": self.forced_stops,
        }

    def print(self, console: Console) -> None:
        """For people."""
        tally = Tally(self.done)
        faults = Table(
            "fault", "done", title=f"seed {self.seed}: {tally.total()} faults in {self.lasted_s / 60:.1f} minutes"
        )
        for kind in Kind:
            faults.add_row(kind.value, str(tally[kind]))
        console.print(faults)
        table = Table("what", "figure")
        rows = [
            (
                "faults on consumers / servers / freezes",
                f"{tally.of_consumers} / {tally.of_servers} / {tally[Kind.FREEZE]}",
            ),
            ("faults left out (their target was away)", str(len(self.left_out))),
            ("load held", f"{self.load_per_s:,.0f} commands/s (asked: {self.rate:g})"),
            *(
                (
                    f"goes on after {kind.value}",
                    f"median {statistics.median(each.longest_s for each in of_kind):.1f} s, "
                    f"max {max(each.longest_s for each in of_kind):.1f} s (limit {of_kind[0].limit_s:g} s)",
                )
                for kind, of_kind in self._recoveries_by_kind()
            ),
            ("longest standstill of a partition", f"{self.standstill_s:.1f} s"),
            *(client_rows(self.audit) if self.audit is not None else ()),
            ("ledger verify", self.verify_says or "verified"),
            ("largest RSS", ", ".join(f"{name} {size:,.0f} MB" for name, size in sorted(self.largest_mb.items()))),
            ("processes that ended by themselves", str(len(self.unexpected_ends))),
        ]
        if self.disk_left_out:
            rows.append(("full disk left out", self.disk_left_out))
        for row in rows:
            table.add_row(*row)
        console.print(table)
        print_verdict(console, self.objections)

    def _recoveries_by_kind(self) -> list[tuple[Kind, Sequence[Recovery]]]:
        of_kinds = [(kind, [each for each in self.recoveries if each.kind is kind]) for kind in Kind]
        return [(kind, of_kind) for kind, of_kind in of_kinds if of_kind]


def print_verdict(console: Console, objections: Sequence[str]) -> None:
    """The last line, and what is wrong."""
    for objection in objections[:SHOWN_MAX]:
        console.print(f"[red]VIOLATED[/] {objection}", soft_wrap=True)
    if len(objections) > SHOWN_MAX:
        console.print(f"and {len(objections) - SHOWN_MAX} more")
    console.print("[red]FAILED[/]" if objections else "[green]All holds: nothing lost, nothing doubled.[/]")


def client_figures(audit: FullAudit) -> dict[str, Any]:
    """What the clients' histories came to, for programs."""
    clients = audit.clients
    return {
        "sent": clients.sent,
        "sent_again": clients.resent,
        "acknowledged": clients.acknowledged,
        "answered": clients.answered,
        "in_doubt": clients.in_doubt,
        "not_sent": clients.refused,
        "poison": clients.poison,
        "quarantined": audit.quarantined,
        "published_again": audit.published_again,
        "replays": audit.replays,
        "lost": clients.lost,
        "doubled": clients.doubled,
    }


def client_rows(audit: FullAudit) -> list[tuple[str, str]]:
    """The same for people, and what the events say."""
    clients = audit.clients
    return [
        ("commands sent (copies besides)", f"{clients.sent:,} ({clients.resent:,})"),
        (
            "acknowledged, answered, in doubt, not sent",
            f"{clients.acknowledged:,}, {clients.answered:,}, {clients.in_doubt:,}, {clients.refused:,}",
        ),
        ("outcomes", ", ".join(f"{name} {count:,}" for name, count in audit.outcomes.most_common())),
        ("poison acknowledged, in quarantine", f"{clients.poison}, {audit.quarantined}"),
        ("lost", str(clients.lost)),
        ("doubled", str(clients.doubled)),
    ]
