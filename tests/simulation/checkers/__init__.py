"""What must hold in every run, one property per file.

A checker hears of everything that replicas and clients do, and raises `Violation` as soon as its property is broken, or
at the end. It judges honest replicas only; what Byzantine ones do is never held against the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.ledger.genesis import Genesis
from tests.simulation.checkers.agreement import Agreement
from tests.simulation.checkers.base import Checker

CHECKERS: tuple[type[Checker], ...] = (Agreement,)


def all_checkers(genesis: Genesis, honest: Iterable[int]) -> list[Checker]:
    """One of each, for one run."""
    honest = list(honest)
    return [kind(genesis, honest) for kind in CHECKERS]
