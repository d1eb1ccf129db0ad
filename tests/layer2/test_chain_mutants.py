"""Broken chains. Each must be noticed by the tests here; a rule whose breach goes unnoticed is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from layer1.errors import LocalError
from layer2.chain import (
    AskLayer1,
    Effect,
    Hello,
    Keep,
    Lead,
    Leading,
    Perform,
    Swap,
    Write,
)
from layer2.chain_head import ChainHead
from layer2.chain_standby import ChainStandby
from tests.layer2 import test_chain as t_chain
from tests.layer2.chain_world import wander

Method = Callable[..., list[Effect]]


def stories() -> None:
    """The same random stories for all; the right chain ends all of them well."""
    for seed in range(1_300):
        wander(seed)


def reversed_effects(original: Method) -> Method:
    """The same, its effects the other way round."""
    return lambda self, *args: original(self, *args)[::-1]


def without(kind: type) -> Callable[[Method], Method]:
    """The same, without one kind of effect."""
    return lambda original: lambda self, *args: [e for e in original(self, *args) if not isinstance(e, kind)]


def shows_at_once(_: Method) -> Method:
    """1: the head shows what nobody has confirmed."""

    def perform(self: ChainHead) -> list[Effect]:
        self.performed = self.position
        return [] if self.fenced else [Perform(self.position)]

    return perform


def confirms_records_only(original: Method) -> Method:
    """1: a turn without records is let out at once."""
    return lambda self, turn: [*original(self, turn), *([] if turn.records else [Perform(self.position)])]


def does_not_wait(original: Method) -> Method:
    """2: the standby is told that it is paired, and the head goes on as if alone."""

    def pair(self: ChainHead) -> list[Effect]:
        alone, effects = self.role, original(self)
        self.role = alone
        return effects[1:]

    return pair


def drops_the_old_set_first(_: Method) -> Method:
    """2: what the standby has is thrown away when the first part of the new set comes."""

    def take(self: ChainStandby, part: Any) -> list[Effect]:
        self._parts.append(part)
        return [Swap((), ())]

    return take


def resumes_any_run(original: Method) -> Method:
    """2: turns of another run are taken for those of this one."""
    return lambda self, welcome: original(self, replace(welcome, run=self._run))


def promotes_unpaired(original: Method) -> Method:
    """3: whoever is asked, asks layer 1."""

    def promote(self: ChainStandby) -> list[Effect]:
        self.role = replace(self.role, paired=True)
        return original(self)

    return promote


def goes_on_confirming(original: Method) -> Method:
    """3: when it leads it signs, and goes on as a standby after a crash."""

    def see(self: ChainStandby, term: int, head: bytes) -> list[Effect]:
        return [e for e in original(self, term, head) if not (isinstance(e, Write) and isinstance(e.role, Leading))]

    return see


def leads_without_layer_1(original: Method) -> Method:
    """3: promoted, it leads at once."""

    def promote(self: ChainStandby) -> list[Effect]:
        effects = original(self)
        term = self.role.term + 1
        return [*effects, Write(Leading(self.role.name, term)), Lead(term)]

    return promote


def keeps_a_lost_pairing(original: Method) -> Method:
    """3: it asks for the term after whatever layer 1 shows, as if it had followed that head."""

    def see(self: ChainStandby, term: int, head: bytes) -> list[Effect]:
        paired = self.role.paired
        effects = original(self, term, head)
        if head != self.role.name and term == self.role.term:
            self.role = replace(self.role, paired=paired)
            return [Write(self.role)]
        return effects

    return see


def keeps_its_pairing_in_a_higher_term(original: Method) -> Method:
    """2: paired once is paired for ever."""

    def greeted(self: ChainStandby, hello: Hello) -> list[Effect]:
        paired = self.role.paired
        effects = original(self, hello)
        self.role = replace(self.role, paired=paired)
        return effects

    return greeted


def goes_on_when_the_link_breaks(original: Method) -> Method:
    """4: without its standby the head goes on alone."""

    def lose(self: ChainHead) -> list[Effect]:
        self.role = Leading(self.role.name, self.role.term)
        return original(self)

    return lose


def goes_alone_without_layer_1(_: Method) -> Method:
    """4: whoever asks for a term has it."""

    def alone(self: ChainHead) -> list[Effect]:
        self.role = Leading(self.role.name, self.role.term + 1)
        return [Write(self.role), *self._perform()] if self.role.term > 1 else [AskLayer1(1)]

    return alone


def shows_what_waited(original: Method) -> Method:
    """5: a head that finds itself fenced lets out what waits."""

    def see(self: ChainHead, term: int, head: bytes) -> list[Effect]:
        effects = original(self, term, head)
        return [*effects, Perform(self.position)] if self.fenced else effects

    return see


def keeps_turns_with_a_gap(original: Method) -> Method:
    """Alone and without a link, it goes on with the turns that it kept before."""

    def lose(self: ChainHead) -> list[Effect]:
        kept = self._kept.copy()
        effects = original(self)
        self._kept = kept
        return effects

    return lose


def pairs_before_everything_came(original: Method) -> Method:
    """2: it may be promoted before it has what the head showed alone."""

    def hear(self: ChainStandby, message: Any) -> list[Effect]:
        effects = original(self, message)
        if isinstance(message, Hello) and self.linked:
            self.role = replace(self.role, paired=True)
            effects.append(Write(self.role))
        return effects

    return hear


MUTANTS: dict[str, tuple[type, str, Callable[[Method], Method]]] = {
    "shows_at_once": (ChainHead, "_perform", shows_at_once),
    "confirms_records_only": (ChainHead, "_end_turn", confirms_records_only),
    "confirms_before_durable": (ChainStandby, "_keep", reversed_effects),
    "keeps_nothing": (ChainStandby, "_keep", without(Keep)),
    "tells_before_it_writes_paired": (ChainHead, "_pair", reversed_effects),
    "writes_no_pairing": (ChainHead, "_pair", without(Write)),
    "does_not_wait": (ChainHead, "_pair", does_not_wait),
    "pairs_before_everything_came": (ChainStandby, "_hear", pairs_before_everything_came),
    "drops_the_old_set_first": (ChainStandby, "_take_part", drops_the_old_set_first),
    "resumes_any_run": (ChainHead, "_welcomed", resumes_any_run),
    "keeps_turns_with_a_gap": (ChainHead, "_lose_touch", keeps_turns_with_a_gap),
    "promotes_unpaired": (ChainStandby, "_promote", promotes_unpaired),
    "goes_on_confirming": (ChainStandby, "_see", goes_on_confirming),
    "leads_without_layer_1": (ChainStandby, "_promote", leads_without_layer_1),
    "keeps_a_lost_pairing": (ChainStandby, "_see", keeps_a_lost_pairing),
    "keeps_its_pairing_in_a_higher_term": (ChainStandby, "_greeted", keeps_its_pairing_in_a_higher_term),
    "goes_on_when_the_link_breaks": (ChainHead, "_lose_touch", goes_on_when_the_link_breaks),
    "goes_alone_without_layer_1": (ChainHead, "_go_alone", goes_alone_without_layer_1),
    "shows_what_waited": (ChainHead, "_see", shows_what_waited),
}


ELSEWHERE: dict[str, Callable[[], None]] = {
    "tells_before_it_writes_paired": t_chain.test_pairing_is_written_down_before_the_standby_is_told,
}
"""Killed by a test of its own: stories seldom come to where it matters."""


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_dies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, method, mutant = MUTANTS[name]
    monkeypatch.setattr(where, method, mutant(getattr(where, method)))
    with pytest.raises((AssertionError, LocalError)):
        ELSEWHERE.get(name, stories)()


@pytest.mark.slow
def test_the_right_chain_lives() -> None:
    stories()
