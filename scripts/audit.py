"""`make audit`: are vulnerabilities known of what the requirements*.lock files pin? Asks OSV through pip-audit.

Exit codes: 0 none is known, but for those in audit-exceptions.toml; 1 some are; 2 the audit could not be done, or an
exception is written wrongly; 3 the service does not answer.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
OSV_URL: Final = "https://api.osv.dev/v1/query"
PROBE_TIMEOUT_S: Final = 10.0
AUDIT_TIMEOUT_S: Final = 600.0
NONE_KNOWN, SOME_KNOWN, NOT_DONE, UNREACHABLE = range(4)


@dataclass(frozen=True)
class Excepted:
    """A vulnerability that is put up with until a day, and why."""

    id: str
    expires: datetime.date
    reason: str


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--osv-url", default=OSV_URL, help="where OSV, or a mirror of it, answers")
    parser.add_argument("--exceptions", type=Path, default=ROOT / "audit-exceptions.toml")
    parser.add_argument("locks", nargs="*", type=Path, help="not given: all requirements*.lock")
    arguments = parser.parse_args()
    locks = arguments.locks or sorted(ROOT.glob("requirements*.lock"))
    try:
        excepted = read_exceptions(arguments.exceptions)
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"error: {arguments.exceptions}: {error!r}; each [[exception]] needs id, expires (a day) and reason")
        return NOT_DONE
    silent = why_silent(arguments.osv_url)
    if silent is None:
        report = audited(locks, arguments.osv_url)
        if report is not None:
            return verdict(report, excepted, datetime.datetime.now(datetime.UTC).date())
        silent = why_silent(arguments.osv_url)
    if silent is None:
        say("error: pip-audit could not read the locks; its message is above")
        return NOT_DONE
    say(f"NOT AUDITED: {arguments.osv_url} does not answer ({silent}). Run this where the network reaches it.")
    return UNREACHABLE


def read_exceptions(path: Path) -> list[Excepted]:
    """What is written in the file."""
    tables = tomllib.loads(path.read_text()).get("exception", [])
    found = [Excepted(**one) for one in tables]
    for one in found:
        if type(one.expires) is not datetime.date or not one.reason.strip():
            raise ValueError(f"{one.id} needs a day on which it expires, and a reason")
    return found


def why_silent(osv_url: str) -> str | None:
    """Why the service does not answer, or None. Asked first: pip-audit takes a service that knows no package, such as
    a mirror without this interface, for one that knows no vulnerability."""
    question = {"package": {"name": "jinja2", "ecosystem": "PyPI"}, "version": "2.4.1"}  # OSV's own example
    request = urllib.request.Request(osv_url, json.dumps(question).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S) as answer:
            return None if json.load(answer).get("vulns") else "it does not know what is known of an old Jinja2"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (OSError, ValueError, AttributeError) as error:
        return str(error)


def audited(locks: list[Path], osv_url: str) -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None when it could not say it."""
    spinner = "on" if sys.stderr.isatty() else "off"
    command = [sys.executable, "-m", "pip_audit", "--vulnerability-service", "osv", "--osv-url", osv_url]
    command += ["--require-hashes", "--disable-pip", "--format", "json", "--progress-spinner", spinner]
    for lock in locks:
        command += ["--requirement", str(lock)]
    # Its warning that OSV cannot check hashes is of no concern: pip does that at each installation.
    environment = os.environ | {"PIP_AUDIT_LOGLEVEL": "ERROR"}
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=AUDIT_TIMEOUT_S, check=False, env=environment
        )
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return dependencies


def verdict(dependencies: list[dict[str, Any]], excepted: list[Excepted], today: datetime.date) -> int:
    """Say what was found; the exit code."""
    skipped = [one["name"] for one in dependencies if "skip_reason" in one]
    if skipped or not dependencies:
        say(f"error: not audited: {', '.join(skipped) or 'nothing was found in the locks'}")
        return NOT_DONE
    by_id = {one.id: one for one in excepted}
    known, used = 0, set()
    for dependency in dependencies:
        for vulnerability in dependency["vulns"]:
            ids = {vulnerability["id"], *vulnerability.get("aliases", ())}
            exception = next((by_id[one] for one in sorted(ids) if one in by_id), None)
            name = f"{dependency['name']} {dependency['version']}: {vulnerability['id']}"
            fixed = ", ".join(vulnerability.get("fix_versions", ())) or "no version yet"
            if exception is not None:
                used.add(exception.id)
            if exception is not None and exception.expires >= today:
                say(f"excepted until {exception.expires}: {name} ({exception.reason})")
                continue
            known += 1
            expired = "" if exception is None else f"; its exception expired on {exception.expires}"
            say(f"VULNERABLE: {name}, mended in {fixed}{expired}")
    for one in excepted:
        if one.id not in used:
            say(f"no longer needed: the exception {one.id}")
    if known:
        say(f"{known} known: raise the pins in pyproject.toml and run `make lock`, or, where nothing of it is reached")
        say("here, write an [[exception]] with a reason and a day into audit-exceptions.toml")
        return SOME_KNOWN
    say(f"no vulnerability is known of the {len(dependencies)} packages in the locks")
    return NONE_KNOWN


def say(line: str) -> None:
    """To whoever reads the step's output."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
