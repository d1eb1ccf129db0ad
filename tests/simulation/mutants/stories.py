"""Groups at full strength turned around: members, witnesses, watchtowers, standbys and layer 1's disputes.

Each is hunted in the stories of one plot (`tests.simulation.stories`), by seeds from 0 on.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from msgspec import structs

from layer1.ledger import disputes
from layer1.ledger.agreements import Certificate, Claim
from layer2 import changing, closing, tower, watcher, witness, witnesses
from layer2.chain import Effect as ChainEffect
from layer2.chain import Perform
from layer2.chain_head import ChainHead
from layer2.updating import Step
from layer2.value import Group
from tests.simulation.mutants.registry import Ground, mutant
from tests.simulation.stories.plots import PLOTS
from tests.simulation.stories.story import run_story

Patch = pytest.MonkeyPatch


@cache
def stories(plot: str) -> Ground:
    """The stories of one plot."""
    first = sorted(PLOTS).index(plot)

    def run(seed: int) -> str:
        return run_story(first + seed * len(PLOTS)).error

    return Ground(f"stories, {plot}", run)


# -------------------------------------------------------------------------------------------------------- witnesses


@mutant("groups.md, rule 3: nothing is ACKed after a claim [F3]", stories("stale wedge"), 60)
def witness_acks_after_its_claim(patch: Patch) -> None:
    """What a witness claimed does not keep it from taking in more."""
    receive_hold = witness._receive_hold

    def mutated(holding: Any, *args: Any) -> Any:
        after, effects = receive_hold(structs.replace(holding, claim=None), *args)
        return structs.replace(after, claim=holding.claim), effects

    patch.setattr(witness, "_receive_hold", mutated)


# ------------------------------------------------------------------------------------------------------ watchtowers


@mutant("groups.md, rule 17: watches layer 1 and reports", stories("asleep"), 10)
def tower_reports_nothing(patch: Patch) -> None:
    """A tower that holds everything and says nothing."""
    answer = tower.answer

    def mutated(*args: Any) -> list[tower.Effect]:
        return [effect for effect in answer(*args) if not isinstance(effect, tower.Submit)]

    patch.setattr(tower, "answer", mutated)


@mutant("groups.md, rule 17: one header per group, replaced on each update", stories("asleep"), 20)
def tower_keeps_the_first_version(patch: Patch) -> None:
    """It receipts what it does not keep."""
    entrust = tower.entrust

    def mutated(policy: Any, name: bytes, visit: tower.Visit) -> list[tower.Effect]:
        effects = entrust(policy, name, visit)
        return effects if visit.held is None else [e for e in effects if not isinstance(e, tower.Keep)]

    patch.setattr(tower, "entrust", mutated)


# --------------------------------------------------------------------------------------------------------- standbys


@mutant("decision 031: the head sends nothing that its standby has not confirmed", stories("promotion"), 60)
def head_shows_at_once(patch: Patch) -> None:
    """What the standby has yet to confirm leaves."""

    def mutated(self: ChainHead) -> list[ChainEffect]:
        self.performed = self.position
        return [] if self.fenced else [Perform(self.position)]

    patch.setattr(ChainHead, "_perform", mutated)


@mutant("decision 031: an old head finds another name in a higher term: it drops what waited", stories("promotion"), 60)
def head_is_never_fenced(patch: Patch) -> None:
    """It goes on, whatever layer 1 shows."""
    patch.setattr(ChainHead, "_see", lambda self, term, head: [])
    patch.setattr(ChainHead, "_perform", lambda self: [Perform(self.position)])


# ------------------------------------------------------------------------------------------- disputes and data loss


@mutant("groups.md, rule 15: has version > k, or version k with another header", stories("withheld"), 60)
def frames_who_signed_one_more(patch: Patch) -> None:
    """A claim of s and k = s + 1 counts as false when a certificate of s + 1 shows up."""

    def mutated(claim: Claim, certificate: Certificate) -> bool:
        return certificate.header.version > claim.version

    patch.setattr(disputes, "is_false", mutated)


@mutant("groups.md, rule 13: who lost data claims nothing [F5]", stories("stale peer"), 60)
def claims_after_a_loss(patch: Patch) -> None:
    """Who was made anew from its phrase claims what it was shown."""
    observe, send_wedge = watcher._observe_wedged, closing.send_wedge

    def looks(group: Group, *args: Any, **named: Any) -> Step:
        after, effects = observe(structs.replace(group, lost=False), *args, **named)
        return structs.replace(after, lost=group.lost), effects

    def wedges(group: Group) -> Step:
        after, effects = send_wedge(structs.replace(group, lost=False))
        return structs.replace(after, lost=group.lost), effects

    patch.setattr(watcher, "_observe_wedged", looks)
    patch.setattr(closing, "send_wedge", wedges)


# ------------------------------------------------------------------------------------------------- changes, sessions


@mutant("groups.md, rule 24 [F8]: wedged is per epoch", stories("replays"), 60)
def blames_for_an_epoch_that_is_over(patch: Patch) -> None:
    """An ACK that was on its way when layer 1 took the change."""
    receive_ack = witnesses._receive_ack

    def mutated(group: Group, *args: Any) -> Step:
        return receive_ack(group, *args)

    patch.setattr(witnesses, "_receive_ack", mutated)
    patch.setattr(changing, "is_of_another_epoch", lambda group, member: False)
