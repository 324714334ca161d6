"""The benchmark's own arithmetic: figures that are wrong would be believed."""

import io
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.bench import Bench
from benchmarks.commands import encoded, make_commands, owner_id, some_owners
from benchmarks.figures import Figure, Figures, percentile, write_results
from benchmarks.footprint import Footprint
from benchmarks.meters import CpuMeter, peak_rss_bytes, pss_bytes
from benchmarks.profiling import durations, shares
from benchmarks.ratios import add_ratios
from benchmarks.servers import Servers
from benchmarks.sizes import FULL, QUICK, Sizes
from benchmarks.table import medians
from benchmarks.targets import Target
from benchmarks.yardstick import yardstick_us
from ledger.broker.kafka_servers import KafkaServers
from ledger.messages.command_codec import decode_command
from ledger.messages.partitioning import partition_of
from service.stack import Addresses


def figures_of(**values: tuple[float, ...]) -> Figures:
    figures = Figures()
    for name, runs in values.items():
        for value in runs:
            figures.add(name, value, "commands/s")
    return figures


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
    assert Target(30, at_least=False).met_by(figure)
    assert not Target(31, at_least=True).met_by(figure)
    assert not Target(29, at_least=False).met_by(figure)


@pytest.mark.parametrize("distribution", ["uniform", "zipf", "hot"])
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


def test_a_hot_owner_is_alone() -> None:
    assert {command.owner_id for command in make_commands(50, 100, "hot", seed=1)} == {"owner-0000000000"}


def test_owners_of_a_large_ledger_are_drawn_from_all_of_it() -> None:
    some = some_owners(100, 100_000, seed=1)
    assert len(set(some)) == 100
    assert max(some) > 50_000
    assert list(some_owners(100, 100, seed=1)) == list(range(100))
    assert {command.owner_id for command in make_commands(2_000, some, "uniform", seed=1)} == set(map(owner_id, some))


def test_meters_see_this_process() -> None:
    meter = CpuMeter({"test": os.getpid()})
    meter.start()
    while meter.seconds()["test"] < 0.02:
        sum(range(10_000))
    assert pss_bytes([os.getpid()]) > 2**20
    assert peak_rss_bytes(os.getpid()) > 2**20
    assert yardstick_us() > 0


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    figures = figures_of(naive_1=(1.5, 2.0, 1.0), naive_16=(4.0,))
    write_results(tmp_path / "latest.json", {}, figures)
    read = Figures.of(json.loads((tmp_path / "latest.json").read_text())["results"])
    assert list(read) == list(figures)
    assert medians(tmp_path / "latest.json") == {"naive_1": 1.5, "naive_16": 4.0}


def test_ratios_are_taken_run_by_run() -> None:
    figures = figures_of(
        backlog_uniform=(10.0, 40.0), naive_16=(5.0, 10.0), hot_owner=(8.0, 40.0), http_get=(9.0,), ancestor_get=(3.0,)
    )
    figures.add("cpu_us_per_command_all", 40.0, "us")
    figures.add("cpu_us_per_command_all_at_10m", 44.0, "us")
    add_ratios(figures, FULL)
    found = {figure.name: figure.runs for figure in figures if figure.unit == "times"}
    assert found == {
        "backlog_uniform_to_naive_16": (2.0, 4.0),
        "hot_owner_to_backlog_uniform": (0.8, 1.0),
        "http_get_to_ancestor_get": (3.0,),
        "cpu_us_per_command_all_at_10m_to_empty": (1.1,),
    }


def test_a_footprint_is_told_for_each_event() -> None:
    before, after = Footprint({"wal": 1_000, "record_tables": 0}), Footprint({"wal": 3_000, "record_tables": 500})
    assert after.per_event_since(before, 10) == {"wal": 200, "record_tables": 50}


def test_backlogs_are_measured_with_and_without_history_in_turn() -> None:
    assert [backlog.name for backlog in FULL.backlogs()] == [
        *("backlog_uniform", "backlog_uniform_at_10m", "backlog_zipf", "backlog_zipf_at_10m", "hot_owner")
    ]
    assert [backlog.name for backlog in QUICK.backlogs()] == ["backlog_uniform", "backlog_zipf", "hot_owner"]
    assert replace(FULL, history_events=1_234).at_history == "at_1234"


def test_statements_in_the_log_of_postgres_are_summed_up() -> None:
    log = (
        "2026-01-01 10:00:00.000 UTC [7] LOG:  duration: 0.100 ms  bind __asyncpg_stmt_1__: SELECT 1\n"
        "2026-01-01 10:00:00.000 UTC [7] LOG:  duration: 2.000 ms  execute __asyncpg_stmt_1__: -- why\n"
        "\tSELECT 1\n\tFROM x\n"
        "2026-01-01 10:00:00.000 UTC [7] DETAIL:  Parameters: $1 = '5'\n"
        "2026-01-01 10:00:00.001 UTC [7] LOG:  duration: 3.500 ms  execute __asyncpg_stmt_1__: -- why\n"
        "\tSELECT 1\n\tFROM x\n"
        "2026-01-01 10:00:00.002 UTC [7] LOG:  duration: 1.000 ms  statement: COMMIT;\n"
    )
    times, calls = durations(log)
    assert times == {"bind: SELECT 1": 0.1, "execute: SELECT 1 FROM x": 5.5, "simple: COMMIT;": 1.0}
    assert calls["execute: SELECT 1 FROM x"] == 2


def test_samples_are_counted_on_top_and_below() -> None:
    own, whole = shares(
        ["run;decide;hash 3", "run;decide 1", "run;run;commit 4", "run;Condition.wait (threading.py:9) 99"]
    )
    assert own == [("commit", 50.0), ("hash", 37.5), ("decide", 12.5)]
    assert dict(whole) == {"decide": 50.0, "commit": 50.0, "hash": 37.5}


async def test_a_part_that_fails_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def fail(*_: object) -> None:
        raise ConnectionResetError("the service closed a connection")

    async def measure(_: Servers, sizes: Sizes, run: int, into: Figures) -> None:
        into.add("naive_1", 1_000 + run, "commands/s")

    monkeypatch.setattr("benchmarks.bench.measure_ancestor", fail)
    monkeypatch.setattr("benchmarks.bench.measure_baselines", measure)
    servers = Servers("test", Addresses("", ""), KafkaServers(""), {}, tmp_path)
    figures = Figures()
    console = Console(file=io.StringIO())
    parts = frozenset({"ancestor", "baselines"})
    bench = Bench(servers, QUICK, parts, figures, console, console.print, None, keep=False)
    await bench.measure()
    assert bench.failures == ["ancestor: ConnectionResetError: the service closed a connection"]
    assert [figure.runs for figure in figures] == [(1_000, 1_001, 1_002)]
