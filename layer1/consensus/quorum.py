"""Quorums and terms: the arithmetic that everything else stands on, free of state.

Safety: two quorums share more than f replicas (byzantine), or at least one (omission).

q = n - f. Two sets of q out of n share at least 2q - n = n - 2f replicas. With n > 3f that is more than f, so one of
them is honest; with n > 2f it is at least one, and there nobody lies.

Source: docs/design/consensus.md, "Model"; Chan and Pass, Simplex Consensus (2023), section 2.
Deviation: views are grouped in terms of L views with one leader; L = 1 is the paper's protocol.
"""

from __future__ import annotations

from typing import Literal

FaultModel = Literal["byzantine", "omission"]


def faulty(replicas: int, model: FaultModel) -> int:
    """f: the most replicas that may fail, out of ``replicas``."""
    return (replicas - 1) // (3 if model == "byzantine" else 2)


def liars(replicas: int, model: FaultModel) -> int:
    """The most replicas that may say what is not so: f, or none at all where all faults are omissions."""
    return faulty(replicas, model) if model == "byzantine" else 0


def quorum(replicas: int, model: FaultModel) -> int:
    """Votes in a certificate: q = n - f."""
    return replicas - faulty(replicas, model)


def term_of(view: int, term_views: int) -> int:
    """The term that ``view`` belongs to; term t holds the views t * L .. (t + 1) * L - 1."""
    return view // term_views


def first_view(term: int, term_views: int) -> int:
    """First view of ``term``. In term 0 that is genesis, which is final."""
    return term * term_views


def last_view(term: int, term_views: int) -> int:
    """Last view of ``term``: where every nullify range of the term ends."""
    return (term + 1) * term_views - 1


def leader(view: int, replicas: int, term_views: int) -> int:
    """Index of the replica that proposes in ``view``."""
    return term_of(view, term_views) % replicas
