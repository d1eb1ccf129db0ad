"""Twins: what is enumerated is all there is, a run is one run, and a share of them at every check."""

from __future__ import annotations

from itertools import product

import pytest

from tests.simulation.__main__ import main
from tests.simulation.twins import scenario
from tests.simulation.twins.partitions import normal, partitions, sequences, swapped
from tests.simulation.twins.scenario import SHAPES, at_random, run_random, simulate, small, small_count


@pytest.mark.parametrize(
    ("instances", "most_parts", "count"), [(1, 1, 1), (4, 4, 15), (5, 5, 52), (5, 2, 16), (9, 2, 256)]
)
def test_partitions_are_those_of_a_set(instances: int, most_parts: int, count: int) -> None:
    """Bell numbers, and sums of Stirling numbers of the second kind."""
    found = partitions(instances, most_parts)
    assert len(set(found)) == len(found) == count
    assert all(normal(partition) == partition and max(partition) < most_parts for partition in found)
    every = {normal(parts) for parts in product(range(most_parts), repeat=instances)} if instances < 6 else set(found)
    assert set(found) == every


def test_of_two_sequences_that_differ_in_the_names_of_the_twins_one_is_kept() -> None:
    """By Burnside's lemma half of all and half of those that swapping leaves as they are."""
    choices = partitions(5, 2)
    fixed = [partition for partition in choices if swapped(partition, 0, 4) == partition]
    kept = set(sequences(5, 2, 3, (0, 4)))
    assert len(kept) == (len(choices) ** 3 + len(fixed) ** 3) // 2
    assert all(
        chosen in kept or tuple(swapped(one, 0, 4) for one in chosen) in kept for chosen in product(choices, repeat=3)
    )


def test_all_small_scenarios_differ() -> None:
    assert small_count() == len(SHAPES) * len(sequences(5, 2, 3, (0, 4))) == 165_888
    first = [small(number) for number in range(5 * len(SHAPES))]
    assert len({str(options).split(":", 1)[1] for options in first}) == len(first)
    assert {options.twins for options in first} == {(0,), (1,), (2,), (3,)}


def test_the_same_number_gives_the_same_run() -> None:
    one, other = (simulate(at_random(7), keep_trace=True) for _ in range(2))
    assert one.trace == other.trace
    assert len(one.trace) > 100


def test_twins_contradict_each_other_and_only_they_are_accused() -> None:
    """Both lead the first view here and nothing is cut, so everybody hears two proposals."""
    whole = [small(number) for number in range(len(SHAPES)) if set(small(number).rounds) == {(0, 0, 0, 0, 0)}]
    led = [options for options in whole if options.twins == (options.first_view // options.term_views % 4,)]
    results = [simulate(options) for options in led]
    assert not any(result.error for result in results)
    assert results
    assert all(result.stats["accusations"] for result in results)


def test_a_cut_that_never_ends_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Liveness is checked: without a quorum in one part nothing goes on."""
    monkeypatch.setattr(
        scenario._Run, "_cut_by_time", lambda _self, sender, receiver, _view: sender % 2 != receiver % 2
    )
    options = next(small(number) for number in range(small_count()) if not small(number).by_view)
    assert simulate(options).error.startswith("StuckError")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(4))
def test_no_small_scenario_finds_a_violation(start: int) -> None:
    """Every 700th; `python -m tests.simulation --twins exhaustive` runs all."""
    for number in range(start * 167, small_count(), 2_801):
        result = simulate(small(number))
        assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 40, 10))
def test_no_random_scenario_finds_a_violation(start: int) -> None:
    for seed in range(start, start + 10):
        result = run_random(seed)
        assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
def test_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--twins", "random", "--seed", "3", "--quiet"]) == 0
    assert "no violation" in capsys.readouterr().out
    assert main(["--twins", "exhaustive", "--seeds", "70..75", "--processes", "1"]) == 0
    assert "6 seeds" in capsys.readouterr().err
    for wrong in (["--twins", "random"], ["--twins", "exhaustive", "--count", "165889"], []):
        with pytest.raises(SystemExit):
            main(wrong)
    monkeypatch.setattr(scenario._Run, "_all_at", lambda _self, _height: False)
    assert main(["--twins", "random", "--seed", "3", "--quiet"]) == 1
    assert main(["--twins", "exhaustive", "--seeds", "5..5", "--processes", "1"]) == 1
    assert "python -m tests.simulation --twins exhaustive --seed 5" in capsys.readouterr().err
