"""Budgets of misbehaviour: slips are forgiven, floods are not, and nobody stays out for ever."""

from __future__ import annotations

from layer1.conduct import Budget, Conduct

SMALL = Budget(faults=3, faults_per_s=1, first_pause_s=2, longest_pause_s=10, forgotten_s=100, peers=4)


def charge(conduct: Conduct[str], count: int, at_s: float, peer: str = "eve") -> list[float]:
    return [conduct.charge(peer, at_s) for _ in range(count)]


def test_slips_are_forgiven_and_a_flood_is_not() -> None:
    conduct = Conduct[str](SMALL)
    assert charge(conduct, 3, 0) == [0, 0, 0]
    assert [conduct.charge("eve", second) for second in range(1, 50)] == [0] * 49
    assert charge(conduct, 4, 60) == [0, 0, 0, 2]
    assert conduct.out_s("eve", 61) == 1
    assert conduct.out_s("eve", 62) == 0
    assert conduct.out_s("bob", 61) == 0


def test_each_pause_is_twice_as_long_up_to_a_bound() -> None:
    conduct = Conduct[str](SMALL)
    pauses = [charge(conduct, 4, 20 * turn)[-1] for turn in range(5)]
    assert pauses == [2, 4, 8, 10, 10]


def test_long_ago_is_forgotten() -> None:
    conduct = Conduct[str](SMALL)
    assert charge(conduct, 4, 0)[-1] == 2
    assert charge(conduct, 4, 5)[-1] == 4
    assert charge(conduct, 4, 110)[-1] == 2


def test_what_is_found_later_is_paid_for() -> None:
    """Its batches wait to be verified when it is cut off: each counted, and made the pause longer."""
    conduct = Conduct[str](SMALL)
    assert charge(conduct, 4, 0)[-1] == 2
    assert charge(conduct, 100, 1) == [0] * 100
    assert conduct.out_s("eve", 1) == 1


def test_faults_of_one_cost_nobody_else_anything() -> None:
    conduct = Conduct[str](SMALL)
    charge(conduct, 4, 0)
    assert charge(conduct, 3, 0, "bob") == [0, 0, 0]
    assert conduct.out_s("bob", 0) == 0


def test_names_are_remembered_up_to_a_bound() -> None:
    """A stranger makes a key in no time."""
    conduct = Conduct[str](SMALL)
    for number in range(100):
        conduct.charge(str(number), number)
    assert len(conduct) == 4
