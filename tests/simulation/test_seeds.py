"""A few runs at every check; continuous integration runs hundreds of fresh ones (`python -m tests.simulation`)."""

from __future__ import annotations

import pytest

from tests.simulation.scenario import run


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_no_seed_finds_a_violation(first: int) -> None:
    for seed in range(first, first + 10):
        result = run(seed)
        assert not result.error, f"{result.options}: {result.error}"
        assert result.height >= 1
