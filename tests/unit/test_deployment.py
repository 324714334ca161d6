"""docs/scaling.md says what its own figures make."""

from pathlib import Path

import pytest

from benchmarks.deployment import (
    FIGURES,
    PAGE,
    PARTITION_CHOICES,
    PARTITIONS_PER_CONSUMER,
    RATES_PER_S,
    deployment,
    main,
    read_costs,
    written,
)


def test_the_page_is_as_it_would_be_written_anew() -> None:
    page = PAGE.read_text()
    assert written(page, read_costs(page)) == page, "run `python -m benchmarks.deployment`"


def test_another_figure_changes_what_is_computed() -> None:
    page = PAGE.read_text()
    costs = read_costs(page)
    dearer = costs | {"cpu_us_per_command_consumer": costs["cpu_us_per_command_consumer"] * 2}
    changed = written(page, dearer)
    assert read_costs(changed) == dearer
    assert changed != written(page, costs)


def test_the_arithmetic() -> None:
    costs = dict.fromkeys(FIGURES, 100.0) | {"cpu_us_per_command_consumer": 30.0, "bytes_per_event_wal": 1_000.0}
    needed = deployment(costs, 1_000_000)
    assert needed.consumers == 50  # 30 cores busy, planned at 60%
    assert needed.projectors == 167
    assert needed.postgres_by_cpu == 11  # 167 cores
    assert (needed.postgres_by_wal, needed.ledgers) == (5, 11)
    assert needed.partitions == 12  # five consumers to a ledger
    assert needed.brokers_by_cpu == 63  # 100 cores for one copy of each topic
    assert needed.postgres_bytes_per_day == 1e6 * 400 * 86_400


def test_every_consumer_has_partitions() -> None:
    costs = read_costs(PAGE.read_text())
    for rate in RATES_PER_S:
        needed = deployment(costs, rate)
        assert needed.partitions in PARTITION_CHOICES
        assert needed.partitions * needed.ledgers >= needed.consumers * PARTITIONS_PER_CONSUMER


def test_figures_of_a_run_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results.json"
    results.write_text('{"results": [{"name": "cpu_us_per_command_kafka", "median": 3.25}]}')
    page = tmp_path / "scaling.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr("benchmarks.deployment.PAGE", page)
    assert main([str(results)]) == 0
    assert read_costs(page.read_text())["cpu_us_per_command_kafka"] == 3.2
    assert "these stay as they are" in capsys.readouterr().err
