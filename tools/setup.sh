#!/bin/sh
# Make .venv from requirements.lock. Safe to run twice, from any directory, and beside another run of itself.
set -eu
root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
python=${PYTHON:-python3}
venv="$root/.venv"

fail() { printf 'wedge: %s\n' "$1" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "$python was not found; install Python 3.11 or later, or name one: make PYTHON=/path/to/python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("$python" -V) is too old; Wedge needs Python 3.11 or later (make PYTHON=/path/to/python3.12)"
"$python" -c 'import venv, ensurepip' >/dev/null 2>&1 ||
    fail "this Python lacks the venv module; install it (Debian and Ubuntu: apt install python3-venv)"

lock="$root/.venv.lock"
until mkdir "$lock" 2>/dev/null; do
    [ -n "$(find "$lock" -maxdepth 0 -mmin +15 2>/dev/null)" ] && rmdir "$lock" 2>/dev/null
    sleep 1
done
trap 'rmdir "$lock" 2>/dev/null || true' EXIT INT TERM
if [ -f "$venv/.ready" ] && [ "$venv/.ready" -nt "$root/requirements.lock" ] &&
    [ "$venv/.ready" -nt "$root/pyproject.toml" ]; then
    exit 0
fi
printf 'wedge: setting up %s (once)\n' "$venv" >&2
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$root/requirements.lock" ||
    fail "the packages of requirements.lock could not be installed; is the package registry reachable?"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable "$root"
touch "$venv/.ready"
