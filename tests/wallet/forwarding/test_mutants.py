"""Broken forwarders, and hosts that break their contract; a rule whose breach nobody notices is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from layer1.errors import LocalError
from tests.wallet.forwarding.test_policy import test_a_neighbour_gets_half_and_dust_gets_half
from tests.wallet.forwarding.world import Command, Group, World
from wallet.forwarding import policy
from wallet.forwarding.core import Forwarder
from wallet.forwarding.events import (
    Effect,
    GroupWedged,
    Known,
    LockRef,
    MakeRelease,
    MakeWedge,
    OutgoingEnded,
    Persist,
    PreimageSeen,
    Register,
)

SEEDS = 1_000
Method = Callable[..., Any]


def stories(seeds: int = SEEDS) -> None:
    """The same for all; the right forwarder ends all of them well."""
    for seed in range(seeds):
        World(seed).run()


def without(*kinds: type) -> Callable[[Method], Method]:
    """The same, without some kinds of effect."""
    return lambda original: lambda self, *args: [e for e in original(self, *args) if not isinstance(e, kinds)]


def remembers_no_preimage(original: Method) -> Method:
    """3: a crash forgets the preimage."""

    def forget(self: Forwarder, preimage: bytes) -> list[Effect]:
        effects = original(self, preimage)
        return [e for e in effects if not (isinstance(e, Persist) and isinstance(e.record, Known))]

    return forget


def fails_what_is_wedged(original: Method) -> Method:
    """Rule 23: "when a group closes its locks pend, they don't fail"."""

    def step(self: Forwarder, event: Any) -> list[Effect]:
        effects: list[Effect] = original(self, event)
        if isinstance(event, GroupWedged):
            for each in list(self._open.values()):
                if each.passage.outgoing == event.group:
                    effects += self._over(each, b"")
        return effects

    return step


def ends_with_the_incoming_lock(_: Method) -> Method:
    """The payer took its lock back: nobody looks after the outgoing one any more."""

    def ended(self: Forwarder, each: Any) -> list[Effect]:
        if each.incoming_over:
            self._forget(each)
        return []

    return ended


def takes_all_for_orphans(_: Method) -> Method:
    """2: after a restart every incoming lock goes back."""
    return lambda self, incoming: [MakeRelease(incoming, b"")]


def another_expiry(original: Method) -> Method:
    """1: the next one has more time."""
    return lambda self, event: original(self, replace(event, expiry_ms=event.expiry_ms + 60))


def forwards_before_it_is_committed(original: Method) -> Method:
    """Rule 23: "forward only after the incoming lock is committed"."""

    def propose(self: World, group: Group, command: Command) -> None:
        free = group.pending is None
        original(self, group, command)
        if free and group.pending is not None and command.offer is not None and not command.by_us:
            self.inbox.append(self.came(LockRef(group.name, group.pending.count), group, command.offer))
            self.settle()

    return propose


def fails_back_before_it_is_committed(original: Method) -> Method:
    """Rule 23: "fail backwards only after the outgoing lock is gone for certain"."""

    def propose(self: World, group: Group, command: Command) -> None:
        lock, free = group.state.get(command.lock), group.pending is None
        original(self, group, command)
        if free and group.pending is not None and command.kind == "release" and lock is not None and lock.ours:
            self.inbox.append(OutgoingEnded(LockRef(group.name, command.lock), lock.hash))
            self.settle()

    return propose


def tells_no_preimage_of_claims(original: Method) -> Method:
    """3: a claim is signed, and its preimage is told to nobody: layer 1 alone would show it."""

    def step(self: World, event: Any) -> None:
        if not isinstance(event, PreimageSeen) or event.preimage in [known[1] for known in self.registry.values()]:
            original(self, event)

    return step


def layer_1_tells_no_preimage(original: Method) -> Method:
    """A group was closed and its lock paid: upstream nobody hears of it."""

    def step(self: World, event: Any) -> None:
        known = [known[1] for known in self.registry.values()]
        if not (isinstance(event, PreimageSeen) and event.preimage in known):
            original(self, event)

    return step


MUTANTS: dict[str, tuple[Any, str, Callable[[Any], Any]]] = {
    "offers_before_it_is_recorded": (Forwarder, "_came", lambda o: lambda self, e: o(self, e)[::-1]),
    "forwards_before_it_is_committed": (World, "propose", forwards_before_it_is_committed),
    "fails_back_before_it_is_committed": (World, "propose", fails_back_before_it_is_committed),
    "fails_what_is_wedged": (Forwarder, "step", fails_what_is_wedged),
    "remembers_no_preimage": (Forwarder, "_preimage", remembers_no_preimage),
    "tells_no_preimage_of_claims": (World, "step", tells_no_preimage_of_claims),
    "layer_1_tells_no_preimage": (World, "step", layer_1_tells_no_preimage),
    "settles_at_any_time": (World, "may_settle", lambda _: lambda self, lock: True),
    "believes_late_registrations": (
        World, "may_settle", lambda o: lambda self, lock: lock.hash in self.registry or o(self, lock),
    ),
    "never_registers": (Forwarder, "_collect", without(Register)),
    "never_wedges": (Forwarder, "_collect", without(MakeWedge)),
    "forwards_at_a_loss": (policy, "fee_units", lambda _: lambda base, ppm, amount: -10),
    "forwards_without_its_fee": (policy, "fee_units", lambda _: lambda base, ppm, amount: 0),
    "another_expiry": (Forwarder, "_came", another_expiry),
    "keeps_a_binding_that_was_never_signed": (Forwarder, "_restored", lambda _: lambda self, group, locks: []),
    "ends_with_the_incoming_lock": (Forwarder, "_ended", ends_with_the_incoming_lock),
    "takes_all_for_orphans": (Forwarder, "_orphaned", takes_all_for_orphans),
    "gives_one_neighbour_everything": (policy, "_half", lambda _: lambda most: most),
}  # fmt: skip

ELSEWHERE: dict[str, Callable[[], None]] = {
    "gives_one_neighbour_everything": test_a_neighbour_gets_half_and_dust_gets_half,
}
"""Killed by a test of its own."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_dies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, method, mutant = MUTANTS[name]
    monkeypatch.setattr(where, method, mutant(getattr(where, method)))
    with pytest.raises((AssertionError, LocalError)):
        ELSEWHERE.get(name, stories)()
