"""What must hold in every run, one property per file.

A checker hears of everything that replicas and clients do, and raises `Violation` as soon as its property is broken, or
at the end. It judges honest replicas only; what Byzantine ones do is never held against the protocol.
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.ledger.genesis import Genesis
from tests.simulation.checkers.agreement import Agreement
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.conservation import Conservation
from tests.simulation.checkers.deadlines import Deadlines
from tests.simulation.checkers.exactly_once import ExactlyOnce
from tests.simulation.checkers.honest_votes import HonestVotes
from tests.simulation.checkers.innocence import Innocence
from tests.simulation.checkers.ledger_clock import LedgerClock
from tests.simulation.checkers.linearizable import Linearizable
from tests.simulation.checkers.liveness import Liveness
from tests.simulation.checkers.ranges import Ranges
from tests.simulation.checkers.reference import Reference
from tests.simulation.checkers.roots import CertifiedRoots
from tests.simulation.checkers.steadfast import Steadfast
from tests.simulation.checkers.validity import Validity

CHECKERS: tuple[type[Checker], ...] = (
    Agreement,
    HonestVotes,
    Ranges,
    LedgerClock,
    CertifiedRoots,
    Conservation,
    Validity,
    ExactlyOnce,
    Deadlines,
    Linearizable,
    Innocence,
    Steadfast,
    Liveness,
)


def all_checkers(genesis: Genesis, honest: Iterable[int]) -> list[Checker]:
    """One of each, for one run."""
    honest, reference = list(honest), Reference(genesis)
    return [kind(genesis, honest, reference) for kind in CHECKERS]
