"""`make audit` against a service of the test's own: pip-audit itself runs, nothing leaves this machine."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from service.stack.ports import LOOPBACK, choose_free
from tests.cli_process import ROOT

PINS = {"h11": "0.16.0", "idna": "3.11"}
LOCK = "".join(f"{name}=={version} \\\n    --hash=sha256:{'0' * 64}\n" for name, version in PINS.items())


def vulnerability(name: str) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "9.9"}]}]
    return {
        "schema_version": "1.4.0",
        "id": "GHSA-test-0001",
        "aliases": ["CVE-2026-0001"],
        "summary": "a test",
        "published": "2026-01-01T00:00:00Z",
        "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}],
    }


class Osv(BaseHTTPRequestHandler):
    """Knows something of the packages that the server names."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        known = getattr(self.server, "known")  # noqa: B009 - set by the fixture
        body = json.dumps({"vulns": [vulnerability(asked)]} if asked in known else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Not into the test's output."""


@pytest.fixture
def osv() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer((LOOPBACK, 0), Osv)
    server.known = {"jinja2"}  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "requirements.lock").write_text(LOCK)
    (tmp_path / "exceptions.toml").write_text("")
    return tmp_path


def audit(folder: Path, port: int) -> tuple[int, str]:
    options = ["--osv-url", f"http://{LOOPBACK}:{port}/v1/query", "--exceptions", str(folder / "exceptions.toml")]
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "audit.py"), *options, str(folder / "requirements.lock")],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_nothing_known_is_0_and_a_finding_is_1(osv: ThreadingHTTPServer, folder: Path) -> None:
    code, said = audit(folder, osv.server_port)
    assert (code, "no vulnerability is known of the 2 packages" in said) == (0, True), said
    osv.known.add("idna")  # type: ignore[attr-defined]
    code, said = audit(folder, osv.server_port)
    assert (code, "VULNERABLE: idna 3.11: CVE-2026-0001, mended in 9.9" in said) == (1, True), said


@pytest.mark.slow
def test_an_exception_counts_until_its_day(osv: ThreadingHTTPServer, folder: Path) -> None:
    osv.known.add("idna")  # type: ignore[attr-defined]
    exception = '[[exception]]\nid = "CVE-2026-0001"\nexpires = {}\nreason = "never called"\n'
    (folder / "exceptions.toml").write_text(exception.format("2999-01-01"))
    code, said = audit(folder, osv.server_port)
    assert (code, "excepted until 2999-01-01" in said) == (0, True), said
    (folder / "exceptions.toml").write_text(exception.format("2001-01-01"))
    code, said = audit(folder, osv.server_port)
    assert (code, "expired on 2001-01-01" in said) == (1, True), said
    (folder / "exceptions.toml").write_text(exception.format('"some day"'))
    assert audit(folder, osv.server_port)[0] == 2


def test_a_service_that_does_not_answer_is_3_and_one_that_knows_nothing_too(
    osv: ThreadingHTTPServer, folder: Path
) -> None:
    code, said = audit(folder, choose_free(1)[0])
    assert (code, "NOT AUDITED" in said) == (3, True), said
    # A mirror that has no such interface would otherwise pass for a clean bill.
    osv.known.clear()  # type: ignore[attr-defined]
    assert audit(folder, osv.server_port)[0] == 3


@pytest.mark.slow
def test_a_lock_that_cannot_be_read_is_2(osv: ThreadingHTTPServer, folder: Path) -> None:
    (folder / "requirements.lock").write_text("idna==3.11\n")
    assert audit(folder, osv.server_port)[0] == 2


@pytest.mark.slow
def test_the_exceptions_of_this_project_can_be_read(osv: ThreadingHTTPServer, folder: Path) -> None:
    (folder / "exceptions.toml").write_text((ROOT / "audit-exceptions.toml").read_text())
    assert audit(folder, osv.server_port)[0] == 0
