"""The same seed gives the same run, in any process, under any hash seed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.simulation.kinds import run_any as run

SEEDS = (3, 7, 8)
"""The last one has wallets."""


def hash_elsewhere(seed: int, hash_seed: str) -> str:
    """The trace hash that a process of its own finds."""
    command = [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--quiet"]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("trace hash ")]
    return line.removeprefix("trace hash ")


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_seed_gives_the_same_trace_hash(seed: int) -> None:
    here = run(seed)
    assert here.steps > 1_000
    assert {here.trace_hash, run(seed, keep_trace=True).trace_hash} == {here.trace_hash}
    assert [hash_elsewhere(seed, hash_seed) for hash_seed in ("1", "2")] == [here.trace_hash] * 2


def test_other_seeds_give_other_runs() -> None:
    assert len({run(seed).trace_hash for seed in SEEDS}) == len(SEEDS)
