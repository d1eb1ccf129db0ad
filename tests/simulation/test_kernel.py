"""Time, chance and the trace."""

from __future__ import annotations

import pytest

from tests.simulation.kernel import Runaway, World


def test_actions_run_in_order_of_time_and_then_of_scheduling() -> None:
    world, seen = World(0), list[tuple[int, str]]()
    for at, name in ((20, "c"), (10, "a"), (10, "b"), (99, "later")):
        world.schedule(at, lambda name=name: seen.append((world.now_us, name)))  # type: ignore[misc]
    assert not world.run(50)
    assert seen == [(10, "a"), (10, "b"), (20, "c")]
    assert world.now_us == 50


def test_what_is_late_happens_now() -> None:
    world, seen = World(0), list[int]()
    world.run(100)
    world.schedule(5, lambda: seen.append(world.now_us))
    world.run(200)
    assert seen == [100]


def test_a_run_that_does_not_end_is_stopped() -> None:
    world = World(0, max_steps=100)

    def again() -> None:
        world.after(0, again)

    again()
    with pytest.raises(Runaway):
        world.run(1)


def test_streams_depend_on_seed_and_name_alone() -> None:
    world = World(1)
    before = world.random("a").random()
    world.random("b").random()
    assert world.random("a").random() == before == World(1).random("a").random()
    assert len({before, world.random("b").random(), World(2).random("a").random()}) == 3


def test_the_trace_hash_depends_on_everything_noted() -> None:
    def noted(*what: tuple[str, str, bytes]) -> str:
        world = World(0)
        for one in what:
            world.note(*one)
        return world.trace_hash

    hashes = [noted(), noted(("a", "b", b"")), noted(("a", "b", b"c")), noted(("a", "b", b"c"), ("d", "e", b""))]
    assert len(set(hashes)) == len(hashes)
    assert noted(("a", "b", b"c")) == hashes[2]
