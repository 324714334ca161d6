"""CPU time and memory of processes, with everything that they have started."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import psutil

MEGABYTE: Final = 2**20


class CpuMeter:
    """CPU seconds that named process trees have spent since `start`."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began: dict[str, float] = {}

    def start(self) -> None:
        """Begin at zero."""
        self._began = {name: cpu_seconds(pid) for name, pid in self._pids.items()}

    def seconds(self) -> dict[str, float]:
        """By name, since `start`."""
        return {name: cpu_seconds(pid) - self._began[name] for name, pid in self._pids.items()}


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its descendants, the ended ones that were waited for included."""
    process = psutil.Process(pid)
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def peak_rss_bytes(pid: int) -> int:
    """The most memory that a process has had resident so far; where the system does not keep that, what it has now."""
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(psutil.Process(pid).memory_info().rss) if found is None else int(found[1]) * 1024


def pss_bytes(pids: Iterable[int]) -> int:
    """Proportional set size: what these processes take of the machine's memory, shared pages counted once among all
    that share them. A process that has just ended counts nothing."""
    total = 0
    for pid in pids:
        try:
            total += psutil.Process(pid).memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total
