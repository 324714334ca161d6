"""Is there a Docker engine? Asked through its command line, with a limit, never with an error."""

import shutil
import subprocess

_ANSWERS_WITHIN_S = 5.0
_OLDEST_ENGINE = 25
"""The first that can check a container's health often while it starts and seldom afterwards."""


def why_no_engine(compose: bool) -> str | None:
    """None when an engine answers that can be used; otherwise the reason.

    Args:
        compose: Whether `docker compose` is needed too.
    """
    docker = shutil.which("docker")
    if docker is None:
        return "the command docker is not installed"
    version = _answer(docker, "version", "--format", "{{.Server.Version}}")
    if version is None:
        return "no Docker engine answers"
    if not compose:
        return None
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST_ENGINE:
        return f"the Docker engine is older than version {_OLDEST_ENGINE} ({version})"
    if _answer(docker, "compose", "version") is None:
        return "a Docker engine answers, but docker compose is not installed"
    return None


def _answer(*command: str) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 - the machine's own docker
            command, capture_output=True, text=True, timeout=_ANSWERS_WITHIN_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
