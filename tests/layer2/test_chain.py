"""A head, its standby and the ledger (`layer2.chain`): decision 031 sentence by sentence, and as a property over all
orders of crashes, lost links, promotions and looks at layer 1.
"""

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from layer1.errors import LocalError, Refused, RemoteError
from layer2.chain import (
    Asked,
    Batch,
    Confirmed,
    Cut,
    Fenced,
    Following,
    Heard,
    Hello,
    Leading,
    Linked,
    Pairing,
    Perform,
    Shown,
    Tell,
    Turn,
    Unlinked,
    Unwilling,
    Welcome,
    Whole,
    Write,
)
from layer2.chain_head import ChainHead
from layer2.chain_standby import ChainStandby, step_down
from tests.layer2.chain_world import Home, World, check_calm

A, B, C = b"A" * 32, b"B" * 32, b"C" * 32
RUN = b"r" * 16


def paired_world() -> tuple[World, Home, Home]:
    """A leads term 1, B is its standby, one version is shown."""
    world = World()
    first, second = world.homes
    world.ask(first)
    world.calm()
    first.sign()
    world.calm()
    assert first.role == Leading(A, 1, B)
    assert second.role == Following(B, 1, A, paired=True)
    assert len(world.shown) == 1
    return world, first, second


# -------------------------------------------------------------------------------------------- 1: what the head lets out


def test_the_head_shows_nothing_that_its_standby_has_not_confirmed() -> None:
    world, first, second = paired_world()
    first.sign()
    assert len(world.shown) == 1
    world.deliver(second)
    assert len(world.shown) == 1
    world.deliver(first)
    assert world.shown == first.log == second.log


def test_turns_without_records_are_confirmed_as_well() -> None:
    world, first, _ = paired_world()
    world.break_link()
    first.greet()
    assert len(first.waiting) == 1
    world.calm()
    assert not first.waiting


def test_one_confirmation_lets_out_all_turns_up_to_it() -> None:
    head = ChainHead(Leading(A, 1, B), RUN)
    head.step(Linked())
    head.step(Heard(Welcome(B, RUN, 0)))
    for position in (1, 2, 3):
        assert head.step(Turn((), (b"record",))) == [Tell(Batch(position, (), (b"record",)))]
    assert head.step(Heard(Confirmed(3))) == [Perform(3)]
    assert head.step(Heard(Confirmed(2))) == []


def test_a_turn_that_was_never_made_cannot_be_confirmed() -> None:
    head = ChainHead(Leading(A, 1, B), RUN)
    head.step(Linked())
    head.step(Heard(Welcome(B, RUN, 0)))
    head.step(Turn())
    with pytest.raises(RemoteError, match="turn 2 is confirmed, the newest is 1"):
        head.step(Heard(Confirmed(2)))
    assert head.performed == 0


def test_a_head_that_was_never_appointed_takes_no_standby() -> None:
    head = ChainHead(Leading(A), RUN)
    assert head.step(Turn((), (b"record",))) == [Perform(1)]
    assert isinstance(head.step(Linked())[0], Cut)


# ----------------------------------------------------------------------------------------------------------- 2: pairing


def test_pairing_is_written_down_before_the_standby_is_told() -> None:
    head = ChainHead(Leading(A, 1), RUN)
    head.step(Turn((), (b"alone",)))
    head.step(Linked())
    head.step(Heard(Welcome(B, b"", 0)))
    assert head.step(Heard(Confirmed(1))) == [Write(Leading(A, 1, B)), Tell(Pairing(1))]
    assert head.step(Turn((), (b"held",))) == [Tell(Batch(2, (), (b"held",)))]


def test_another_home_cannot_take_the_place_of_the_standby_in_a_term() -> None:
    head = ChainHead(Leading(A, 1, B), RUN)
    head.step(Linked())
    assert isinstance(head.step(Heard(Welcome(C, b"", 0)))[0], Cut)
    assert not head.in_force


def test_after_a_broken_link_the_standby_gets_what_it_lacks() -> None:
    head = ChainHead(Leading(A, 1, B), RUN)
    head.step(Linked())
    head.step(Heard(Welcome(B, RUN, 0)))
    head.step(Turn((), (b"one",)))
    head.step(Turn((), (b"two",)))
    assert head.step(Linked()) == [Tell(Hello(A, 1, RUN, 2))]
    effects = head.step(Heard(Welcome(B, RUN, 1)))
    assert effects == [Tell(Batch(2, (), (b"two",))), Tell(Pairing(1)), Perform(1)]


def test_a_standby_may_be_promoted_while_it_catches_up() -> None:
    """It keeps the old set until it has all of the new one, and the old one holds all that was shown."""
    world, first, second = paired_world()
    first.sign()
    world.calm()
    second.crash()
    first.sign()
    second.start()
    world.link()
    world.deliver(second)
    world.deliver(first)
    world.deliver(second)  # the part, not yet the whole
    world.ask(second)
    world.calm()
    assert second.log == world.shown
    assert world.head == B


def test_a_standby_that_misses_a_turn_says_so() -> None:
    standby = ChainStandby(Following(B))
    standby.step(Heard(Hello(A, 1, RUN, 3)))
    standby.step(Heard(Whole(3)))
    with pytest.raises(RemoteError, match="turn 5 after 3"):
        standby.step(Heard(Batch(5)))
    assert standby.position == 3


def test_a_standby_believes_no_pairing_before_it_has_everything() -> None:
    standby = ChainStandby(Following(B))
    standby.step(Heard(Hello(A, 1, RUN, 3)))
    with pytest.raises(RemoteError, match="before everything was sent"):
        standby.step(Heard(Pairing(1)))
    assert not standby.role.paired


# --------------------------------------------------------------------------------------------------------- 3: promotion


def test_promoted_while_the_head_still_runs() -> None:
    world, first, second = paired_world()
    first.sign()  # on its way
    world.ask(second)
    world.execute(0)
    second.look()
    assert isinstance(second.core, ChainHead)
    second.sign()
    first.sign()
    first.greet()
    assert world.shown == second.log
    first.look()
    assert first.fenced_at == 2
    world.calm()
    assert first.log == second.log == world.shown
    assert first.role == Following(A, 2, B, paired=True)


def test_until_it_leads_a_standby_confirms_and_holds_what_it_confirmed() -> None:
    """A promotion that layer 1 does not hear of keeps nobody from paying."""
    world, first, second = paired_world()
    world.ask(second)
    first.sign()
    world.deliver(second)
    world.deliver(first)
    assert len(world.shown) == 2
    world.execute(0)
    second.look()
    assert isinstance(second.role, Leading)
    assert second.log == world.shown


def test_who_leads_confirms_nothing_over_a_crash() -> None:
    world, first, second = paired_world()
    world.ask(second)
    world.execute(0)
    second.look()
    second.crash()
    second.start()
    world.link()
    first.sign()
    assert isinstance(second.core, ChainHead)
    assert len(world.shown) == 1


def test_who_leads_hears_no_old_head_even_before_it_starts_as_one() -> None:
    standby = ChainStandby(Following(B, 1, A, paired=True))
    standby.step(Heard(Hello(A, 1, RUN, 0)))
    standby.step(Heard(Whole(0)))
    standby.step(Shown(2, B))
    standby.step(Unlinked())
    standby.step(Linked())
    for message in (Hello(A, 1, RUN, 0), Whole(0), Batch(1), Pairing(1)):
        assert standby.step(Heard(message)) == [Cut("this home leads now")]


def test_a_standby_that_is_not_paired_is_not_promoted() -> None:
    standby = ChainStandby(Following(B, 1, A))
    with pytest.raises(Refused) as refused:
        standby.step(Asked())
    assert refused.value.code == "not_paired"
    assert standby.role == Following(B, 1, A)


@pytest.mark.parametrize(("paired", "term"), [(False, 2), (True, 3)])
def test_a_term_that_was_never_asked_for_is_a_fault(paired: bool, term: int) -> None:
    with pytest.raises(LocalError, match="an old copy"):
        ChainStandby(Following(B, 1, A, paired)).step(Shown(term, B))


# ------------------------------------------------------------------------------------------------------- 4: going alone


def test_a_head_without_its_standby_goes_on_alone_in_a_higher_term_only() -> None:
    world, first, second = paired_world()
    second.crash()
    first.sign()
    assert len(world.shown) == 1
    world.ask(first)
    assert len(world.shown) == 1
    world.execute(0)
    first.look()
    assert world.shown == first.log
    assert first.role == Leading(A, 2)


@pytest.mark.parametrize("winner", [0, 1])
def test_the_first_of_the_two_on_layer_1_wins(winner: int) -> None:
    world, first, second = paired_world()
    world.ask(first)
    world.ask(second)
    world.execute(winner)
    world.execute(0)
    assert world.refused == 1
    world.calm()
    leader, other = (second, first) if winner else (first, second)
    assert (world.term, world.head) == (2, leader.name)
    leader.sign()
    world.calm()
    assert other.role == Following(other.name, 2, leader.name, paired=True)
    assert leader.log == other.log == world.shown


def test_who_is_alone_already_need_not_ask() -> None:
    with pytest.raises(Refused) as refused:
        ChainHead(Leading(A, 3), RUN).step(Asked())
    assert refused.value.code == "alone"


# -------------------------------------------------------------------------------------------- 5: an old head comes back


def test_an_old_head_that_comes_back_shows_nothing() -> None:
    world, first, second = paired_world()
    first.sign()
    first.crash()
    world.ask(second)
    world.calm(1)
    second.look()
    first.start()
    first.look()
    assert isinstance(first.core, ChainHead)
    assert first.core.fenced
    first.sign()
    assert len(world.shown) == 1
    with pytest.raises(Refused, match="another home leads"):
        first.core.step(Asked())


def test_a_standby_takes_nothing_from_an_old_head() -> None:
    standby = ChainStandby(Following(B, 3, C))
    assert standby.step(Heard(Hello(A, 2, RUN, 9))) == [Tell(Unwilling(3))]
    assert standby.step(Heard(Batch(10))) == []


def test_two_homes_of_one_name_are_copies() -> None:
    with pytest.raises(RemoteError, match="one of the two is a copy"):
        ChainStandby(Following(A)).step(Heard(Hello(A, 1, RUN, 0)))


def test_only_a_fenced_head_steps_down() -> None:
    assert step_down(Leading(A, 1, B), Shown(2, B)) == Following(A, 2, B)
    for shown in (Shown(1, A), Shown(2, A), Shown(1, B)):
        with pytest.raises(LocalError, match="this home leads"):
            step_down(Leading(A, 1, B), shown)


def test_the_same_fence_is_told_once() -> None:
    head = ChainHead(Leading(A, 1, B), RUN)
    assert head.step(Shown(2, B)) == [Fenced(2)]
    assert head.step(Shown(3, B)) == []


# ----------------------------------------------------------------------------------------------------------- all orders

HOME = st.integers(0, 1)


class Chain(RuleBasedStateMachine):
    """`World` looks for breaches by itself; nothing here knows what is right."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    @rule(steps=st.lists(st.sampled_from("sgldDaxAvB"), min_size=1, max_size=6), home=HOME)
    def act(self, steps: list[str], home: int) -> None:
        for step in steps:
            self.one(step, self.world.homes[home])

    def one(self, step: str, home: Home) -> None:
        leads = isinstance(home.core, ChainHead)
        if step == "s" and leads:
            home.sign()
        elif step == "g" and leads:
            home.greet()
        elif step == "l":
            self.world.link()
        elif step in "dD":
            self.world.deliver(home if step == "d" else self.world.other(home))
        elif step in "aA":
            self.world.ask(home)
        elif step == "x" and self.world.asked:
            self.world.execute(0)
        elif step == "v":
            home.look()
        elif step == "B":
            self.world.break_link()

    @rule(home=HOME)
    def crash(self, home: int) -> None:
        self.world.homes[home].crash()

    @rule(home=HOME, effects=st.integers(0, 3))
    def crash_soon(self, home: int, effects: int) -> None:
        self.world.homes[home].effects_left = effects

    @rule(home=HOME)
    def start(self, home: int) -> None:
        if self.world.homes[home].core is None:
            self.world.homes[home].start()

    @precondition(lambda self: len(self.world.asked) > 1)
    @rule(position=st.integers(0, 3))
    def execute_out_of_order(self, position: int) -> None:
        self.world.execute(position)

    @rule()
    def calm(self) -> None:
        """A leader appears whenever one can: all versions that were shown are there, and one more can be."""
        check_calm(self.world)


def run_model(examples: int, **options: Any) -> None:
    """The property, over so many examples."""
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Chain,
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=slow, **options
        ),
    )


@pytest.mark.slow
def test_no_two_heads_show_different_things_in_any_order() -> None:
    run_model(60)
