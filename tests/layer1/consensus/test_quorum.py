"""The arithmetic against a deliberately dumb twin, and the relations between the constants."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.consensus import quorum
from layer1.consensus.quorum import FaultModel
from tests.layer1.consensus.network import config, key_of

MODELS = st.sampled_from(["byzantine", "omission"])


@given(st.integers(1, 200), MODELS)
def test_f_is_the_largest_that_fits(n: int, model: FaultModel) -> None:
    """Model: n > 3f, or n > 2f; f is the largest that fits, and q = n - f."""
    factor = 3 if model == "byzantine" else 2
    dumb = max(f for f in range(n) if n > factor * f)
    assert quorum.faulty(n, model) == dumb
    assert quorum.quorum(n, model) == n - dumb


@given(st.integers(1, 200), MODELS)
def test_two_quorums_meet(n: int, model: FaultModel) -> None:
    """Two quorums meet in more than f replicas (byzantine) or in at least one (omission)."""
    shared = 2 * quorum.quorum(n, model) - n
    assert shared > (quorum.faulty(n, model) if model == "byzantine" else 0)


@given(st.integers(1, 200), MODELS)
def test_one_more_than_may_lie_can_be_asked(n: int, model: FaultModel) -> None:
    """Whoever believes so many that say the same can find them, though f are silent; nobody lies under omission."""
    liars = quorum.liars(n, model)
    assert liars == (quorum.faulty(n, model) if model == "byzantine" else 0)
    assert liars + 1 <= quorum.faulty(n, model) + 1 <= quorum.quorum(n, model)


@given(st.integers(0, 10_000), st.integers(1, 64), st.integers(1, 20))
def test_terms_partition_the_views(view: int, term_views: int, n: int) -> None:
    """leader(view) = replicas[(view // L) mod n]; a term is L views in a row with one leader."""
    term = quorum.term_of(view, term_views)
    views = [each for each in range(view - term_views, view + term_views + 1) if each >= 0]
    dumb = [each for each in views if each // term_views == view // term_views]
    assert (quorum.first_view(term, term_views), quorum.last_view(term, term_views)) == (dumb[0], dumb[-1])
    assert {quorum.leader(each, n, term_views) for each in dumb} == {(view // term_views) % n}


@pytest.mark.parametrize(
    "wrong",
    [
        {"term_views": 0},
        {"max_step_ms": 11_999},
        {"rebroadcast_ms": 1_001},
        {"stall_timeout_ms": 999},
        {"inclusion_timeout_ms": 999},
        {"max_view_timeout_ms": 999},
        {"max_term_ms": 29_999},
        {"silent_views": 0},
        {"ahead_views": 7},
        {"replicas": (key_of(0).public, key_of(0).public)},
        {"replicas": (b"short",)},
        {"replicas": ()},
    ],
)
def test_relations_between_the_constants(wrong: dict[str, Any]) -> None:
    """Genesis must satisfy max_step >= heartbeat + (f+1) view timeouts; the timers must be able to do their work."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        config(**wrong)


@pytest.mark.parametrize("path", sorted(Path(quorum.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_the_core_does_no_input_or_output(path: Path) -> None:
    """Cores import neither asyncio, time, random, socket, ssl, sqlalchemy, aiohttp nor logging."""
    banned = {"asyncio", "time", "random", "socket", "ssl", "sqlalchemy", "aiohttp", "logging"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not banned & {name.split(".")[0] for name in names}
