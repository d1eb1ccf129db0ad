#!/bin/sh
# Rewrite requirements.lock: every version pinned, every file hashed, for all platforms and Python 3.11 onwards.
set -eu
cd "$(dirname -- "$0")/.."
command -v uv >/dev/null 2>&1 || python -m pip install --quiet uv
uv pip compile pyproject.toml --extra dev --extra postgresql --universal --python-version 3.11 --generate-hashes --upgrade \
    --no-header --no-emit-index-url --no-emit-find-links --quiet --output-file requirements.lock
