"""The benchmark's own arithmetic: figures that are wrong would be believed."""

import json
import os
from pathlib import Path

import pytest

from benchmarks.commands import encoded, make_commands
from benchmarks.figures import Figure, Figures, percentile, write_results
from benchmarks.meters import CpuMeter, pss_bytes
from benchmarks.targets import Target
from ledger.messages.command_codec import decode_command
from ledger.messages.partitioning import partition_of


def test_a_figure_has_median_and_spread() -> None:
    figures = Figures()
    for value in (30.0, 10.0, 20.0):
        figures.add("backlog_uniform", value, "commands/s")
    assert [figure.as_json() for figure in figures] == [
        {
            "name": "backlog_uniform",
            "median": 20.0,
            "min": 10.0,
            "max": 30.0,
            "unit": "commands/s",
            "runs": [30.0, 10.0, 20.0],
        }
    ]


def test_a_figure_keeps_its_unit() -> None:
    figures = Figures()
    figures.add("live_visible_p50_ms", 1.0, "ms")
    with pytest.raises(ValueError, match="measured in ms, not in s"):
        figures.add("live_visible_p50_ms", 1.0, "s")


def test_results_are_a_header_and_a_list(tmp_path: Path) -> None:
    figures = Figures()
    figures.add("naive_1", 1234.5678, "commands/s")
    write_results(tmp_path / "results" / "latest.json", {"cores": 2}, figures)
    written = json.loads((tmp_path / "results" / "latest.json").read_text())
    assert written["header"] == {"cores": 2}
    assert [result["name"] for result in written["results"]] == ["naive_1"]
    assert written["results"][0]["median"] == 1234.6


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_nearest_ranks(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_targets_compare_medians() -> None:
    figure = Figure("x", "ms", (10.0, 30.0, 100.0))
    assert Target(30, at_least=True).met_by(figure)
    assert not Target(30, at_least=False).met_by(figure)
    assert Target(31, at_least=False).met_by(figure)


@pytest.mark.parametrize("distribution", ["uniform", "zipf"])
def test_commands_are_readable_and_never_overdraw(distribution: str) -> None:
    commands = make_commands(2_000, 100, distribution, seed=1)  # type: ignore[arg-type]
    balances: dict[str, int] = {}
    for command in commands:
        balances[command.owner_id] = balances.get(command.owner_id, 0) + (command.amount or 0)
        assert balances[command.owner_id] >= 0
    assert len({command.nonce for command in commands}) == len({command.command_id for command in commands}) == 2_000
    records = encoded(commands, 12)
    read = [
        decode_command("example-app", record.key, record.value, partition, 12)
        for partition, some in records.items()
        for record in some
    ]
    assert sorted(map(str, read)) == sorted(map(str, commands))
    assert all(partition_of(record.key, 12) == partition for partition, some in records.items() for record in some)


def test_zipf_has_a_busiest_owner() -> None:
    commands = make_commands(5_000, 100, "zipf", seed=1)
    busiest = sum(command.owner_id == "owner-0000000000" for command in commands)
    assert 5_000 / 5.19 * 0.8 < busiest < 5_000 / 5.19 * 1.2  # 5.19: the sum of 1/n up to 100


def test_meters_see_this_process() -> None:
    meter = CpuMeter({"test": os.getpid()})
    meter.start()
    while meter.seconds()["test"] < 0.02:
        sum(range(10_000))
    assert pss_bytes([os.getpid()]) > 2**20
