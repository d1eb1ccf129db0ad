"""Issue 5: every close shows what happens next, and when. What the record says of it, in words and over HTTP."""

from __future__ import annotations

import msgspec

from layer1.api.event_views import GroupEvent
from layer1.api.feed import _group
from layer1.api.views import GroupView, group_view
from layer1.ledger.genesis import Currency
from layer1.ledger.records import Group
from layer1.ledger.transactions import Reveal
from layer1.light_views import group_text
from tests.layer1.ledger.dispute_scenarios import TOWER, wait
from tests.layer1.ledger.world import ALICE, BOB, CAROL, PERIOD, World


def shown(group: Group) -> GroupView:
    view = group_view(group)
    text = group_text({"id": view.id, "group": msgspec.to_builtins(view)}, Currency("WDG", 2))
    assert view.next in text
    return view


def events(world: World) -> list[GroupEvent]:
    return [_group(1, event) for event in world.last.events if hasattr(event, "group_id")]  # type: ignore[arg-type]


def test_each_phase_says_what_comes_next_and_when() -> None:
    world = World()
    party = world.opened(ALICE, BOB, CAROL)
    assert shown(world.group(party)).next.startswith("open: ")

    world.do(party.wedge(0, party.hidden(5, 1_000, 1_000, 1_000)))
    view, deadline = shown(world.group(party)), world.state.clock + PERIOD
    assert f"at clock {deadline} version 5 is paid" in view.next and "1 of 3 members" in view.next
    assert (view.deadline, [member.balance for member in view.members]) == (deadline, [None] * 3)
    assert "not revealed" in group_text({"id": view.id, "group": msgspec.to_builtins(view)}, Currency("WDG", 2))

    world.do(party.plea(2))
    view = shown(world.group(party))
    assert f"at clock {deadline + PERIOD} " in view.next and "member 2 may have lost data" in view.next
    assert [member.pleaded for member in view.members] == [False, False, True]
    assert [(each.change, each.deadline) for each in events(world)] == [("reported", deadline + PERIOD)]

    world.do(party.guarded(party.hidden(5, 1_000, 1_000, 1_000), 1, TOWER, 7))
    wait(world, party)
    view = shown(world.group(party))
    assert (view.status, view.revealing, view.deadline) == ("wedged", "deadline", world.state.clock + PERIOD)
    assert f"reveals its body; at clock {view.deadline} all others lose their bonds" in view.next
    assert [(each.change, each.revealing, each.transaction) for each in events(world)] == [
        ("reported", "deadline", None)
    ]

    wait(world, party)
    view = shown(world.group(party))
    assert "no clock runs any more" in view.next
    assert [member.forfeit for member in view.members] == ["hidden", "hidden", None]

    world.do(Reveal(party.id, party.state(5, 1_000, 1_000, 1_000)[1]))
    view = shown(world.group(party))
    assert view.next == f"closed at clock {world.state.clock}: everybody is paid"
    assert [member.paid for member in view.members] == [1_000, 1_000, 1_000 + 3 * 101]


def test_a_bounty_is_shown_with_the_member_that_promised_it() -> None:
    world = World()
    party = world.opened()
    world.do(party.wedge(0, party.state(3, 1_700, 300)))
    world.do(party.guarded(party.state(5, 300, 1_700), 1, TOWER, 7))
    view = shown(wait(world, party))
    assert [member.bounty for member in view.members] == [None, 7]
    assert [member.delegate is not None for member in view.members] == [False, True]
    assert sum(member.paid or 0 for member in view.members) + 7 == 2_000 + 2 * 101


def test_a_witnessed_group_says_how_many_claims_it_waits_for() -> None:
    world = World()
    party = world.opened(witnessed=True)
    world.do(party.wedge(0, party.state(5, 300, 1_700)))
    view = shown(world.group(party))
    assert (view.deadline, "without a clock: 1 of 2 claims are in" in view.next) == (None, True)
    assert [(each.claimed, each.contact) for each in view.witnesses] == [(False, "127.0.0.1:1")]
