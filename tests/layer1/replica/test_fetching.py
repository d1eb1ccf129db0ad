"""What is asked for, whom, and how much at a time."""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.replica.fetching import FETCH_RETRY_MS, MAX_ASKED, Fetches


def names(count: int, first: int = 0) -> list[Hash]:
    return [number.to_bytes(32, "big") for number in range(first, first + count)]


def test_a_missing_batch_is_asked_for_in_turn_until_it_is_here() -> None:
    fetches, digest = Fetches(), bytes(32)
    fetches.want(digest, [2, 0, 2, 3])
    assert fetches.due(0) == [(2, digest)]
    assert fetches.due(1) == []
    assert fetches.wake_ms() == FETCH_RETRY_MS
    asked = [fetches.due(FETCH_RETRY_MS * i)[0][0] for i in range(1, 4)]
    assert asked == [0, 3, 2]
    assert fetches.is_hard()
    fetches.drop(digest)
    assert fetches.wake_ms() is None
    assert digest not in fetches


def test_only_what_a_proposal_waits_for_is_fetched() -> None:
    fetches = Fetches()
    fetches.want(bytes(32), [1])
    fetches.want(b"x" * 32, [1])
    fetches.want(b"y" * 32, [])  # nobody to ask
    fetches.keep_only({b"x" * 32})
    assert [digest for _, digest in fetches.due(0)] == [b"x" * 32]


def test_a_proposal_of_batches_that_nobody_has_costs_little() -> None:
    """A leader named 8,192: each step then took milliseconds, and all of them were asked for five times a second."""
    fetches, dead = Fetches(), names(8_192)
    for digest in dead:
        fetches.want(digest, [1, 2])
    asked = [digest for now_ms in range(0, 10 * FETCH_RETRY_MS, 10) for _, digest in fetches.due(now_ms)]
    assert len(asked) == len(set(asked)) == 10 * MAX_ASKED


def test_what_came_last_is_asked_for_first() -> None:
    """Batches of a dead proposal must not stand before those of the next leader's."""
    fetches, dead = Fetches(), names(8_192)
    for digest in dead:
        fetches.want(digest, [1, 2])
    fetches.due(0)
    [wanted] = names(1, 10_000)
    fetches.want(wanted, [3, 2])
    assert fetches.due(1) == []
    assert (3, wanted) in fetches.due(FETCH_RETRY_MS)


def test_an_answer_makes_room_for_a_question() -> None:
    fetches, wanted = Fetches(), names(MAX_ASKED + 1)
    for digest in wanted:
        fetches.want(digest, [1])
    asked = [digest for _, digest in fetches.due(0)]
    assert fetches.due(1) == []
    fetches.drop(asked[5])
    assert [digest for _, digest in fetches.due(1)] == [digest for digest in wanted if digest not in asked]


def test_what_was_asked_for_in_vain_is_asked_for_again_when_all_was_asked_for() -> None:
    fetches, wanted = Fetches(), names(2 * MAX_ASKED)
    for digest in wanted:
        fetches.want(digest, [1, 2])
    first, second, third = (fetches.due(number * FETCH_RETRY_MS) for number in range(3))
    assert {digest for _, digest in first + second} == set(wanted)
    assert third == [(2, digest) for _, digest in first]
