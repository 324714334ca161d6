#!/bin/sh
# Makes or refreshes the Python environment .venv: environment.sh run|test
# `run` installs what the ledger needs, `test` also what checks and tests need. Nothing happens when all is there.
set -eu
cd "$(dirname "$0")/.."
purpose=$1

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

new_enough='import sys; sys.exit(sys.version_info < (3, 11))'

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] || continue
        # Some are only stand-ins that say what to install, so each is tried.
        if "$candidate" -c "$new_enough" > /dev/null 2>&1; then
            echo "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is needed, and none was found (tried python3, python3.11 to python3.14, python).
       Install one, or name it: make ${MAKE_TARGET:-run} PYTHON=/path/to/python3"
}

java_is_new_enough() {
    for java in "${JAVA_HOME:+$JAVA_HOME/bin/java}" java; do
        [ -n "$java" ] || continue
        major=$("$java" -version 2>&1 | sed -n 's/.*version "\(1\.\)\{0,1\}\([0-9]*\).*/\2/p' | head -n 1) || continue
        if [ "${major:-0}" -ge 17 ]; then return 0; fi
    done
    return 1
}

pip_install() {
    # On a terminal pip shows the progress of its downloads; in a log its lines would only be noise.
    if [ -t 2 ]; then quiet=; else quiet=--quiet; fi
    .venv/bin/python -m pip install $quiet --disable-pip-version-check --no-input "$@" >&2 \
        || fail "pip could not install $*; its message is above"
}

locks="requirements-local.lock"
[ "$purpose" = test ] && locks="requirements-dev.lock"
java_is_new_enough || locks="$locks requirements-java.lock"

if [ -x .venv/bin/python ] && ! .venv/bin/python -c "$new_enough" > /dev/null 2>&1; then
    say "the environment .venv no longer works: making it anew"
    rm -rf .venv
fi
if ! [ -e .venv/complete ]; then
    python=$(find_python)
    "$python" -c 'import venv, ensurepip' 2> /dev/null \
        || fail "$python cannot make environments: its modules venv and ensurepip are missing.
       On Debian and Ubuntu: apt-get install python3-venv"
    say "making the environment .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
    touch .venv/complete
fi

# One stamp for each lock that is installed as it is now; what tests need contains what running needs.
fingerprint() { cksum < "$1" | tr ' ' '-'; }
for lock in $locks; do
    stamp=".venv/installed-$lock-$(fingerprint "$lock")"
    if [ "$lock" = requirements-local.lock ] \
        && [ -e ".venv/installed-requirements-dev.lock-$(fingerprint requirements-dev.lock)" ]; then continue; fi
    if ! [ -e "$stamp" ]; then
        say "installing the $(grep -c '^[a-z].*==' "$lock") packages of $lock"
        pip_install --require-hashes --requirement "$lock"
        rm -f ".venv/installed-$lock-"*
        touch "$stamp"
    fi
done

# Editable: the code is used where it lies, so only the project's description makes a new installation necessary.
stamp=".venv/installed-project-$(fingerprint pyproject.toml)"
if ! [ -e "$stamp" ]; then
    say "installing the ledger itself"
    pip_install --no-deps --no-build-isolation --editable .
    rm -f .venv/installed-project-*
    touch "$stamp"
fi
