"""Runs tests in a copy of the project, and says which of them failed first."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, NamedTuple

TEST_LIMIT_S: Final = 60
"""Of one test. A mutant may hang where the product does not; a test that runs into this limit has noticed it."""

TRIAL_LIMIT_S: Final = 600
"""Of all tests of one mutant together."""

BASELINE_LIMIT_S: Final = 1_200
HYPOTHESIS_SEED: Final = 0
"""So that a property is tried with the same examples every time."""

PLUGINS: Final = ("pytest_asyncio.plugin", "pytest_timeout", "_hypothesis_pytestplugin", "tests.mutants.failures_file")
"""What the tests need: all that is installed would cost each trial two more seconds of CPU."""

_PASSED, _FAILED = 0, 1


class Verdict(Enum):
    """What the tests said."""

    NOTICED = "noticed"
    TIMEOUT = "timeout"
    """Nothing failed, but the tests did not come to their end: noticed, in a way."""
    SURVIVED = "survived"
    NOT_TRIED = "not tried"
    """Something else broke than a test: the mutant says nothing."""


class Failure(NamedTuple):
    """A test that failed. `when`: setup, call, teardown; or collect, for a file that cannot be imported."""

    test: str
    when: str
    text: str

    @property
    def by_timeout(self) -> bool:
        """Whether it ran into TEST_LIMIT_S."""
        return "Timeout (>" in self.text


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one run of tests."""

    verdict: Verdict
    failures: Sequence[Failure]
    seconds: float
    output: str
    """The end of what pytest said."""


async def run_tests(
    root: Path, tests: Sequence[str], environment: Mapping[str, str], *, to_the_end: bool = False
) -> Result:
    """Run these tests in the copy at `root`, up to the first failure unless `to_the_end`."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with tempfile.TemporaryDirectory(prefix="ledger-trial-") as folder:
        failures_file = Path(folder) / "failures"
        output_file = Path(folder) / "output"
        with output_file.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "pytest", "-q", "--no-header", "--tb=short", *(f"-p{plugin}" for plugin in PLUGINS)),
                *("-pno:cacheprovider", f"--hypothesis-seed={HYPOTHESIS_SEED}", f"--timeout={TEST_LIMIT_S}"),
                *([] if to_the_end else ["-x"]),
                *tests,
                cwd=root,
                env={
                    **environment,
                    "MUTANTS_FAILURES": str(failures_file),
                    "NO_COLOR": "1",
                    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            timed_out = False
            try:
                async with asyncio.timeout(BASELINE_LIMIT_S if to_the_end else TRIAL_LIMIT_S):
                    code = await process.wait()
            except TimeoutError:
                timed_out, code = True, -1
            finally:
                # What tests have started, too: they are in pytest's process group.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        failures = _read(failures_file)
        said = output_file.read_text(errors="replace")[-4_000:]
    return Result(_verdict(code, timed_out, failures), failures, loop.time() - began, said)


def _verdict(code: int, timed_out: bool, failures: Sequence[Failure]) -> Verdict:
    if timed_out:
        return Verdict.TIMEOUT
    if code == _PASSED:
        return Verdict.SURVIVED
    if code == _FAILED and failures and failures[0].when == "call":
        return Verdict.TIMEOUT if failures[0].by_timeout else Verdict.NOTICED
    return Verdict.NOT_TRIED


def _read(failures_file: Path) -> list[Failure]:
    if not failures_file.exists():
        return []
    return [Failure(**json.loads(line)) for line in failures_file.read_text().splitlines()]
