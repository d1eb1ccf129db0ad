"""Forwarding turned around: the driver, its records, what it is told. Each is hunted in the networks of one plot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.mutants.locks import networks
from tests.simulation.mutants.registry import mutant
from wallet.forwarding import policy
from wallet.forwarding.core import Forwarder
from wallet.forwarding.driver import ForwardDriver
from wallet.forwarding.events import Bound, Known, Passage, Persist
from wallet.locking import Locking

Patch = pytest.MonkeyPatch


def without(patch: Patch, kind: type) -> None:
    """Records of this kind are not written."""
    perform: Callable[..., None] = ForwardDriver._perform

    def mutated(self: ForwardDriver, effects: Any, records: Any = None) -> None:
        perform(self, [e for e in effects if not (isinstance(e, Persist) and isinstance(e.record, kind))], records)

    patch.setattr(ForwardDriver, "_perform", mutated)


@mutant("groups.md, rule 23: fail backwards only after the outgoing lock is gone for certain", networks("hub dies"), 30)
def passages_are_not_recorded(patch: Patch) -> None:
    """A crash forgets which lock became which."""
    without(patch, Passage)
    replay = Forwarder.replay
    patch.setattr(Forwarder, "replay", lambda self, record: replay(self, record) if isinstance(record, Known) else None)


@mutant("groups.md, rule 23: live from the moment of one's own signature", networks("hub dies"), 30)
def signatures_bind_nothing(patch: Patch) -> None:
    """The record of which lock an offer has become is not written with the signature."""
    without(patch, Bound)


@mutant("groups.md, rule 23: its locks pend, they don't fail", networks("closing in the middle"), 20)
def wedged_locks_fail(patch: Patch) -> None:
    """What stands in a group that is wedged goes back at once."""
    stopped = ForwardDriver.stopped

    def mutated(self: ForwardDriver, group_id: bytes, shown: Any) -> None:
        stopped(self, group_id, shown)
        self._end_what_is_not_in(set(), group_id)

    patch.setattr(ForwardDriver, "stopped", mutated)


@mutant("decision 041: if layer 1 paid a lock, its preimage is told before the end is", networks("silent"), 60)
def layer_1_tells_no_preimage(patch: Patch) -> None:
    """Nobody looks up what layer 1 paid for."""
    asked = Locking._asked

    def mutated(self: Locking, group: Any, shown: Any) -> Any:
        me = group.place.index
        mine = {lock.hash for lock in group.locks if lock.payer == me}
        return [hashed for hashed in asked(self, group, shown) if hashed not in mine]

    patch.setattr(Locking, "_asked", mutated)


@mutant("decision 041: never at a loss", networks("hub dies"), 10)
def forwards_for_nothing(patch: Patch) -> None:
    """Its fee is not asked for."""
    patch.setattr(policy, "fee_units", lambda base, ppm, amount: 0)
