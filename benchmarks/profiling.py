"""Where the time of backlogs and of HTTP goes: the processes' Python (py-spy), Postgres by connection and statement.

For whoever looks for what to make faster; the figures of a run that is profiled are a little lower.
"""

import asyncio
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.fresh_ledger import FreshLedger
from benchmarks.ledger_process import LedgerProcess
from benchmarks.meters import cpu_seconds

SAMPLES_PER_S: Final = 200
ROWS: Final = 25
FRAME_SHARE_MAX: Final = 0.99
"""What nearly all samples are in says nothing: the start of the process."""

_WAITING: Final = "Condition.wait (threading.py"
_SPY: Final = Path(sys.executable).with_name("py-spy")
_DURATION: Final = re.compile(
    r"LOG:  duration: (?P<ms>[\d.]+) ms  (?:(?P<step>parse|bind|execute) \S+|statement): (?P<statement>.*?)"
    r"(?=^\d{4}-\d\d-\d\d |\Z)",
    re.MULTILINE | re.DOTALL,
)


class Profiler:
    """Looks at one run after the other and prints what it has seen."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._ledger: FreshLedger | None = None
        self._log_began = 0
        self._spies: dict[str, tuple[asyncio.subprocess.Process, Path]] = {}
        self._backends: dict[int, float] = {}

    async def before(self, ledger: FreshLedger) -> None:
        """Have Postgres log how long each statement takes, on this database, from the next connection on."""
        self._ledger = ledger
        await ledger.do("log_durations")

    async def start(self, processes: Mapping[str, LedgerProcess]) -> None:
        """From here on."""
        assert self._ledger is not None
        self._log_began = _size(self._log)
        self._backends = {row["pid"]: cpu_seconds(row["pid"]) for row in await self._ledger.rows("backends")}
        if not _SPY.exists():
            self._console.print("py-spy is not installed beside this Python: no look into the processes", style="dim")
            return
        for name, process in processes.items():
            target = self._ledger.servers.home / f"{name}.folded"
            # Without --native the process is stopped for microseconds only.
            command = [str(_SPY), "record", "--pid", str(process.pid), "--rate", str(SAMPLES_PER_S)]
            command += ["--function", "--format", "raw", "--output", str(target)]
            null = asyncio.subprocess.DEVNULL
            spy = await asyncio.create_subprocess_exec(*command, stdin=null, stdout=null, stderr=null)
            self._spies[name] = (spy, target)

    async def stop(self, title: str, commands: int) -> None:
        """Up to here; print it, in microseconds per command (or request)."""
        assert self._ledger is not None
        rows = await self._ledger.rows("backends")
        spent: dict[str, float] = {}
        for row in rows:
            seconds = cpu_seconds(row["pid"]) - self._backends.get(row["pid"], 0.0)
            spent[row["name"]] = spent.get(row["name"], 0.0) + seconds / commands * 1e6
        self._print(f"Postgres by connection: {title}", "CPU, us per command", sorted(spent.items(), key=_by_value))
        log = self._log
        if log.exists():
            with log.open(errors="replace") as file:
                file.seek(self._log_began)
                text = file.read()
            times, calls = durations(text)
            longest = sorted(times.items(), key=_by_value)[:ROWS]
            shown = [(f"{calls[name]:>6} x {name}", ms * 1e3 / commands) for name, ms in longest]
            self._print(f"Postgres by statement: {title}", "time, us per command", shown)
        for name, (spy, target) in self._spies.items():
            spy.send_signal(signal.SIGINT)
            await spy.wait()
            if target.exists():
                own, whole = shares(target.read_text().splitlines())
                self._print(f"{name}, functions on top: {title}", "% of samples", own)
                self._print(f"{name}, with what they call: {title}", "% of samples", whole)
                target.unlink()
        self._spies.clear()

    @property
    def _log(self) -> Path:
        assert self._ledger is not None
        return self._ledger.servers.home / "postgres" / "postgres.log"

    def _print(self, title: str, unit: str, rows: Iterable[tuple[str, float]]) -> None:
        # No table: a narrow log would cut its columns.
        self._console.print(f"\n[bold]{title}[/] ({unit})")
        for name, value in rows:
            self._console.print(f"{value:8.2f}  {name}", markup=False, soft_wrap=True)


def durations(log: str) -> tuple[dict[str, float], Counter[str]]:
    """Milliseconds and calls by statement, of what Postgres has logged."""
    times: dict[str, float] = {}
    calls: Counter[str] = Counter()
    for found in _DURATION.finditer(log):
        # What the log appends to a statement are its parameters, on a line of their own.
        statement = found["statement"].split("\n20", 1)[0]
        short = " ".join(re.sub(r"--[^\n]*", "", statement).split())[:90]
        name = f"{found['step'] or 'simple'}: {short}"
        times[name] = times.get(name, 0.0) + float(found["ms"])
        calls[name] += 1
    return times, calls


def shares(folded: Iterable[str]) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Of py-spy's folded stacks: how often each function was on top, and how often it was anywhere but
    always, in per cent of samples."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in folded:
        stack, _, count = line.rpartition(" ")
        functions = stack.split(";")
        if functions[-1].startswith(_WAITING):
            continue  # a thread without work
        own[functions[-1]] += int(count)
        for function in set(functions):
            whole[function] += int(count)
    total = sum(own.values()) or 1
    below = Counter({name: count for name, count in whole.items() if count < total * FRAME_SHARE_MAX})
    most = [[(name, count * 100 / total) for name, count in counts.most_common(ROWS)] for counts in (own, below)]
    return most[0], most[1]


def _by_value(pair: tuple[str, float]) -> float:
    return -pair[1]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
