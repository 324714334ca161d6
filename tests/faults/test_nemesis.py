"""A short fault run: some of every kind, then the whole audit."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nemesis.schedule import Kind

ROOT = Path(__file__).parents[2]
MINUTES = 0.3
LIMIT_S = 580


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(LIMIT_S + 20)
def test_faults_of_every_kind_lose_and_double_nothing(tmp_path: Path) -> None:
    """The times of recovery are for `make faults` to judge, on a machine that does nothing else."""
    report_file = tmp_path / "report.json"
    arguments = ["--minutes", str(MINUTES), "--seed", "5", "--rate", "200", "--json", str(report_file)]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.nemesis", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert report_file.exists(), ended.stderr[-5_000:]
    report = json.loads(report_file.read_text())
    untimely = [objection for objection in report["objections"] if "goes on after" in objection]
    assert [objection for objection in report["objections"] if objection not in untimely] == [], ended.stderr[-5_000:]
    assert (report["clients"]["lost"], report["clients"]["doubled"]) == (0, 0)
    assert report["clients"]["answered"] > 0
    done = {kind for kind, times in report["faults"]["by_kind"].items() if times}
    away = {Kind.DISK_FULL.value} if report["disk_fault_left_out"] else set()
    assert {kind.value for kind in Kind} - done <= away | set(report["faults"]["left_out_kinds"])
