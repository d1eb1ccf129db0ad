"""What a wallet keeps of the versions that it brought to its watchtowers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from layer2.payments import pay
from layer2.sealing import seal_body
from layer2.tower import Held
from tests.layer2.harness import CHAIN, key, pair
from wallet.contacts import Contact
from wallet.entrusting import KEPT_BODIES, Entruster
from wallet.signals import Signals
from wallet.towers import KnownTower

TOWER = KnownTower(Contact(key("tower").public, "tower", 1), 0, False)


def entruster(group: Any) -> Entruster:
    """Of a host with this group, and without towers."""
    host = SimpleNamespace(chain_id=CHAIN, groups={group.group_id: group}, remind=lambda *_: None)
    return Entruster(key("funding 0"), host, (), Signals(), lambda *_: None)  # type: ignore[arg-type]


def test_rule_12_what_a_tower_holds_can_be_revealed_though_the_group_went_on() -> None:
    """ "Its tower keeps the body encrypted under a key derived from its seed": what it reports is the header alone."""
    a, _, wire = pair()
    a.request(pay(1, 5))
    wire.run()
    older, state = a.group.certificate, a.group.state
    a.request(pay(1, 6))
    wire.run()
    it = entruster(a.group)
    assert it.body_of(older.header) is None
    it.heard(TOWER, Held(a.name, older, seal_body(a.group.place.key, older.header, state.body)))
    assert it.body_of(older.header) == state.body
    it.drop_bodies(a.name)
    assert it.body_of(older.header) is None


def test_a_few_bodies_are_kept_the_newest_ones() -> None:
    a, _, wire = pair()
    it, headers = entruster(a.group), []
    for _ in range(KEPT_BODIES + 2):
        a.request(pay(1, 5))
        wire.run()
        headers.append(a.group.state.header)
        it.keep_body(a.group.state.header, a.group.state.body)
    assert [it.body_of(header) is not None for header in headers] == [False] * 2 + [True] * KEPT_BODIES
