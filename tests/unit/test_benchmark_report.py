"""The page of results and its plots."""

import json
from pathlib import Path

import pytest

from benchmarks.figures import Figures, write_results
from benchmarks.plots import PLOTS
from benchmarks.report import write_report

HEADER = {
    "measured_at": "2026-01-31T12:00:00+00:00",
    "commit": "abc1234",
    "cores": 2,
    "cpu": "a processor",
    "python": "3.11.7",
    "kafka": "4.2.1",
    "postgres": {"server_version": "18.4", "fsync": "on", "synchronous_commit": "on"},
    "partitions": 12,
    "durability": "The disk is waited for",
    "sizes": {"name": "full"},
}
UNITS = {"throughput": "commands/s", "cpu": "us", "latency": "ms", "http": "requests/s"}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    figures = Figures()
    for value in (30_000.0, 36_000.0, 40_000.0):
        figures.add("backlog_uniform", value, "commands/s")
        figures.add("naive_16", value / 10, "commands/s")
        for process in ("consumer", "projector", "kafka", "postgres"):
            figures.add(f"cpu_us_per_command_{process}", value / 2_500, "us")
        figures.add("cpu_us_per_command_all", value / 2_500 * 4, "us")
        for what in ("outcome", "visible"):
            figures.add(f"live_{what}_p50_ms", 5.0, "ms")
            figures.add(f"live_{what}_p99_ms", 25.0, "ms")
        figures.add("http_get", value, "requests/s")
        figures.add("new_thing", value, "commands/s")
    path = tmp_path / "results" / "latest.json"
    write_results(path, HEADER, figures)
    return path


def test_a_report_tells_everything_that_was_measured(results: Path, tmp_path: Path) -> None:
    write_report(results, tmp_path / "page")
    page = (tmp_path / "page" / "results.md").read_text()
    for result in json.loads(results.read_text())["results"]:
        assert page.count(f"| `{result['name']}` |") == 1
    assert "| `backlog_uniform` | 36,000 | 30,000 | 40,000 | commands/s | >= 35,000, met |" in page
    assert "**missed**" in page
    assert (tmp_path / "page" / "results.json").read_text() == results.read_text()


def test_a_report_can_be_made_again_from_its_own_results(results: Path, tmp_path: Path) -> None:
    write_report(results, tmp_path / "page")
    before = {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()}
    assert set(before) == {"results.md", "results.json"} | {
        f"{name}.{kind}" for name in PLOTS for kind in ("svg", "png")
    }
    write_report(tmp_path / "page" / "results.json", tmp_path / "page")
    assert {path.name: path.read_bytes() for path in (tmp_path / "page").iterdir()} == before


def test_plots_of_nothing_are_not_drawn(tmp_path: Path) -> None:
    figures = Figures()
    figures.add("idle_pss_mb", 400.0, "MiB")
    write_results(tmp_path / "latest.json", HEADER, figures)
    write_report(tmp_path / "latest.json", tmp_path / "page")
    assert {path.name for path in (tmp_path / "page").iterdir()} == {"results.md", "results.json"}
