"""Broken variants of the core. The checkers must find each one within the stated number of seeds.

A checker that no mutant ever trips proves nothing: each of these is a sentence of the rules turned around.
"""

from __future__ import annotations

from typing import Any

import pytest

from layer1.consensus.certificates import Checker, Vote, votes_of
from layer1.consensus.chain import Chain, header_fault
from layer1.consensus.config import Config
from layer1.consensus.core import Consensus
from layer1.consensus.events import Effect, Event, Now, Persist
from layer1.consensus.messages import Certificate, Proposal, View
from layer1.consensus.records import Restored
from layer1.consensus.votes import OwnVotes
from layer1.errors import LocalError
from layer1.header import Header
from tests.layer1.consensus.network import SafetyError
from tests.layer1.consensus.scenarios import LivenessError, chaos

SEEDS = 60
"""Every mutant is found within this many seeds."""


FOUND = (SafetyError, LivenessError, LocalError)


class NotarizesTwice(Consensus):
    """Rule 3 without "never notarize two blocks in one view"."""

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        self.chain.first.pop(proposal.header.view, None)
        self._own.notarized.pop(proposal.header.view, None)
        super()._on_proposal(sender, proposal)


class FinalizesAfterNullify(OwnVotes):
    """Rule 5 without "never cast finalize(w) after a nullify whose range contains w"."""

    def may_finalize(self, view: View) -> bool:
        return view not in self.finalized


class NullifiesAfterFinalize(Consensus):
    """Rule 5 without "never cast a nullify whose range contains a finalized view", and rule 6 without [S1]."""

    def _nullify(self) -> bool:
        first = max(self.chain.floor.view + 1, self.config.first_view(self.view))
        if self.config.term(first) in self._own.nullified:
            return False
        self._cast(self._signer.nullify(first))
        return True


class ForgetsVotes(Consensus):
    """Restarts from its certificates alone."""

    def _restore(self, restored: Restored) -> None:
        restored.votes.clear()
        super()._restore(restored)


class SendsFirst(Consensus):
    """Messages leave before the records are durable."""

    def step(self, event: Event, now: Now) -> list[Effect]:
        return sorted(super().step(event, now), key=lambda effect: isinstance(effect, Persist))


class SkipsGaps(Chain):
    """Rule 2 without the nullifications between."""

    def uncovered(self, parent_view: View, view: View) -> View | None:
        return None


class CountsEveryStart(Chain):
    """Objects without "a start inside a term counts only with the notarization of the view before it"."""

    def counts(self, start: View) -> bool:
        return True


class CoversWholeTerm(Chain):
    """Objects without "it covers from the latest start among them"."""

    def nullified_from(self, view: View) -> View | None:
        held = self.nullifications.get(self._config.term(view))
        return None if held is None else self._config.first_view(view)


class AgesAcrossTerms(Consensus):
    """Rule 8 without "of the current term" and "whichever is later"."""

    def _deadline_ms(self) -> int | None:
        deadline_ms = super()._deadline_ms()
        oldest_ms = next(iter(self._notarized_ms.values()), None)
        if deadline_ms is None or oldest_ms is None:
            return deadline_ms
        return min(deadline_ms, oldest_ms + self.config.stall_timeout_ms)


class NeverRepeats(Consensus):
    """No rule 10."""

    def _repeat(self) -> None:
        pass


class CountsReplicasTwice(Checker):
    """Objects without "of distinct replicas"."""

    def certificate(self, certificate: Certificate) -> None:
        for vote in votes_of(certificate):
            self.vote(vote)


class ChecksNoSignatures(Checker):
    """Everybody may vote in everybody's name."""

    def vote(self, vote: Vote) -> None:
        self.vote_shape(vote)


def without_time(header: Header, parent: Header, config: Config) -> str | None:
    """Time without "wall_time >= parent.wall_time"."""
    fault = header_fault(header, parent, config)
    return None if fault is not None and "wall time" in fault else fault


CORE = "layer1.consensus.core."
MUTANTS: list[tuple[str, object, int, bool]] = [
    # what is replaced, by what, views in a term, with a traitor
    ("layer1.consensus.config.Config.quorum", property(lambda self: len(self.replicas) - self.faulty - 1), 1, True),
    ("make", NotarizesTwice, 1, True),
    (CORE + "OwnVotes", FinalizesAfterNullify, 1, False),
    ("make", NullifiesAfterFinalize, 8, False),
    ("make", ForgetsVotes, 1, False),
    ("make", SendsFirst, 1, False),
    (CORE + "Chain", SkipsGaps, 1, True),
    (CORE + "Chain", CountsEveryStart, 8, True),
    (CORE + "Chain", CoversWholeTerm, 8, False),
    ("make", AgesAcrossTerms, 8, False),
    ("make", NeverRepeats, 1, False),
    (CORE + "Checker", CountsReplicasTwice, 1, True),
    (CORE + "Checker", ChecksNoSignatures, 1, True),
    (CORE + "header_fault", without_time, 1, True),
]


def name_of(value: object) -> str | None:
    return getattr(value, "__name__", "SmallQuorum" if isinstance(value, property) else None)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "mutant", "term_views", "traitor"), MUTANTS, ids=name_of)
def test_a_mutant_is_found(
    monkeypatch: pytest.MonkeyPatch, target: str, mutant: Any, term_views: int, traitor: bool
) -> None:
    make = mutant if target == "make" else Consensus
    if target != "make":
        monkeypatch.setattr(target, mutant)
    for seed in range(SEEDS):
        try:
            chaos(seed, term_views, traitor=traitor, make=make)
        except FOUND:
            return
    pytest.fail(f"{SEEDS} seeds did not find the mutant")
