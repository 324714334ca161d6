"""Is there a Docker engine? Asked through its command line, with a limit, never with an error."""

import shutil
import subprocess

_ANSWERS_WITHIN_S = 5.0


def why_no_engine(compose: bool) -> str | None:
    """None when an engine answers (and `docker compose` works, where it is needed); otherwise the reason."""
    docker = shutil.which("docker")
    if docker is None:
        return "the command docker is not installed"
    if _answer(docker, "version", "--format", "{{.Server.Version}}") is None:
        return "no Docker engine answers"
    if compose and _answer(docker, "compose", "version") is None:
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
