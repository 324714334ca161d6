"""Apache Kafka as its makers publish it to Maven repositories, every jar pinned by its SHA-256."""

import hashlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from service.stack.interface import Report, StackError

KAFKA_VERSION = "4.2.1"
_PINS = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.jars")
_DOWNLOADS_AT_ONCE = 8
_SILENCE_S = 60
"""A download that brings nothing for so long has failed."""
_ATTEMPTS_MAX = 3
_TENTHS = 10


@dataclass(frozen=True, slots=True)
class PinnedJar:
    """One line of the list: a Maven artifact and the bytes it must have."""

    sha256: str
    size: int
    group: str
    artifact: str
    version: str

    @property
    def file_name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def pinned_jars() -> tuple[PinnedJar, ...]:
    """What Kafka's own artifact resolves to, and a binding from slf4j to its log4j."""
    jars = []
    for line in _PINS.read_text().splitlines():
        sha256, size, coordinate = line.split()
        jars.append(PinnedJar(sha256, int(size), *coordinate.split(":")))
    return tuple(jars)


def kafka_classpath(cache: Path, report: Report) -> list[Path]:
    """The jars in the cache, each verified; the missing ones are downloaded first, with progress.

    Raises:
        StackError: A jar cannot be downloaded, or is not what was pinned.
    """
    folder = cache / f"kafka-{KAFKA_VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    jars = pinned_jars()
    missing = [jar for jar in jars if not _is_whole(folder / jar.file_name, jar)]
    if missing:
        size_mb = sum(jar.size for jar in missing) / 1e6
        report(f"downloading Apache Kafka {KAFKA_VERSION}: {len(missing)} files, {size_mb:.0f} MB, into {folder}")
        _download(missing, folder, report)
    return [folder / jar.file_name for jar in jars]


def _is_whole(path: Path, jar: PinnedJar) -> bool:
    try:
        if path.stat().st_size != jar.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _download(jars: list[PinnedJar], folder: Path, report: Report) -> None:
    _trust_what_the_machine_trusts()
    # Into a folder beside it, then moved file by file: two starts at one time never see half a jar.
    with (
        tempfile.TemporaryDirectory(prefix="download-", dir=folder.parent) as landing,
        _shown(sum(jar.size for jar in jars), report) as advance,
        ThreadPoolExecutor(_DOWNLOADS_AT_ONCE) as threads,
    ):
        for arrived, jar in threads.map(lambda jar: (_fetch(jar, Path(landing), advance), jar), jars):
            os.replace(arrived, folder / jar.file_name)


def _trust_what_the_machine_trusts() -> None:
    """As pip does. requests would trust its own list only, and fail where a proxy signs with the company's key."""
    if not {"REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"} & os.environ.keys():
        paths = ssl.get_default_verify_paths()
        certificates = paths.cafile or paths.capath
        if certificates is not None and (Path(certificates).is_file() or any(Path(certificates).iterdir())):
            os.environ["REQUESTS_CA_BUNDLE"] = certificates


def _fetch(jar: PinnedJar, landing: Path, advance: Callable[[int], None]) -> Path:
    # Both are slow to import, and a start that downloads nothing needs neither.
    from jgo.maven import MavenContext, PythonResolver  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415

    @contextmanager
    def progress(_file_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield advance

    resolver = PythonResolver(progress_callback=progress)
    wrong = ""
    for attempt in range(_ATTEMPTS_MAX):
        context = MavenContext(resolver=resolver, repo_cache=landing / str(attempt), timeout=_SILENCE_S)
        try:
            path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
        except (RequestException, RuntimeError, OSError) as error:
            wrong = str(error)
            continue
        if _is_whole(path, jar):
            return path
        wrong = "what arrived has not the pinned SHA-256"
    raise StackError(
        f"{jar.file_name} of Apache Kafka could not be downloaded, {_ATTEMPTS_MAX} attempts: {wrong}. "
        "The first start on local processes needs a Maven repository; "
        "otherwise name servers that run: LEDGER_KAFKA_BOOTSTRAP_SERVERS and LEDGER_DATABASE_URL."
    )


@contextmanager
def _shown(size: int, report: Report) -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("  "),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task("Apache Kafka", total=size)
            yield lambda count: bar.advance(task, count)
        return
    done, tenths = 0, 0

    def advance(count: int) -> None:
        nonlocal done, tenths
        done += count
        if done * _TENTHS // size > tenths:
            tenths = done * _TENTHS // size
            report(f"  {done / 1e6:.0f} of {size / 1e6:.0f} MB")

    yield advance
