"""A plugin for pytest that writes every failure into the file that MUTANTS_FAILURES names, one JSON object a line."""

import json
import os
from pathlib import Path

import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A test failed, or what was set up for it."""
    if report.failed:
        _write(report.nodeid, report.when or "", report.longreprtext)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A file cannot be imported."""
    if report.failed:
        _write(report.nodeid, "collect", report.longreprtext)


def _write(test: str, when: str, text: str) -> None:
    with Path(os.environ["MUTANTS_FAILURES"]).open("a") as file:
        file.write(json.dumps({"test": test, "when": when, "text": text}) + "\n")
