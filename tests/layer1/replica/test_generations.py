"""An old copy of a journal is found out by one peer more than may lie."""

from __future__ import annotations

import pytest

from layer1.consensus.quorum import FaultModel, liars
from layer1.errors import LocalError
from layer1.replica.generations import Generations
from layer1.replica.messages import Standing


@pytest.mark.parametrize(
    ("replicas", "model", "words"), [(4, "byzantine", 2), (7, "byzantine", 3), (3, "omission", 1), (7, "omission", 1)]
)
def test_one_word_more_than_may_be_lies_stops_an_old_copy(replicas: int, model: FaultModel, words: int) -> None:
    """Of three replicas with omission faults, one may be down: the word of the other is enough, and no lie."""
    generations = Generations(liars(replicas, model))
    for peer in range(1, words):
        generations.hear(peer, Standing(2, 0, ()))
    generations.hear(words, Standing(1, 0, ()))  # knows of no later journal
    with pytest.raises(LocalError, match=r"runs on an old copy of its journal: it has generation 1"):
        generations.hear(words + 1, Standing(2, 0, ()))
